"""Small random models of the architectures that the metrics use, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEXT = (
    "The quick brown fox jumps over the lazy dog while a cat sleeps in the warm sun. "
    "Paris is the capital of France; Rome is the capital of Italy. One two three four five. "
)

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] | trim }}<end>\n"
    "{% endfor %}{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)


def tokenizer(folder: Path, *, pair: bool) -> Any:
    """A word-piece-like tokenizer with [CLS] a [SEP] b [SEP] if ``pair``, else with a template."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "<turn>", "<end>", "<bos>"]
    made = Tokenizer(models.BPE(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=200, special_tokens=special, show_progress=False, initial_alphabet=list("xyz\n")
    )
    made.train_from_iterator([TEXT, "user\n assistant\n system\n"], trainer)
    if pair:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        bos_token="<bos>",
        eos_token="<end>",
    )
    if not pair:
        fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return fast


SMALL = {
    "vocab_size": 200,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "initializer_range": 0.6,
    "pad_token_id": 0,
}


def save(folder: Path, model_class: str, config_class: str, *, pair: bool, **extra: Any) -> Path:
    """Saves a random model with its tokenizer."""
    import torch
    import transformers

    tokenizer(folder, pair=pair)
    config = getattr(transformers, config_class)(**{**SMALL, **extra})
    with torch.random.fork_rng():
        torch.manual_seed(7)
        getattr(transformers, model_class)(config).save_pretrained(folder)
    return folder


def labels(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}


def roberta(folder: Path, *names: str, positions: int = 80) -> Path:
    return save(
        folder,
        "RobertaForSequenceClassification",
        "RobertaConfig",
        pair=True,
        max_position_embeddings=positions,
        type_vocab_size=1,
        **labels(*names),
    )


def deberta(folder: Path, *names: str, version: int = 2) -> Path:
    style = (
        {"position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True}
        if version == 3
        else {"conv_kernel_size": 3, "conv_act": "gelu"}
    )
    return save(
        folder,
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        pair=True,
        max_position_embeddings=512,
        type_vocab_size=0,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        **style,
        **labels(*names),
    )


def gemma_reward(folder: Path) -> Path:
    return save(
        folder,
        "Gemma2ForSequenceClassification",
        "Gemma2Config",
        pair=False,
        num_labels=1,
        head_dim=8,
        num_key_value_heads=1,
        sliding_window=8,
        max_position_embeddings=120,
    )


def gemma_chat(folder: Path) -> Path:
    return save(
        folder,
        "Gemma2ForCausalLM",
        "Gemma2Config",
        pair=False,
        head_dim=8,
        num_key_value_heads=1,
        sliding_window=64,
        max_position_embeddings=120,
    )


def bert(folder: Path) -> Path:
    return save(
        folder, "BertModel", "BertConfig", pair=True, max_position_embeddings=64, type_vocab_size=2
    )


def sentence_transformer(folder: Path) -> Path:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    bert(folder / "bert")
    words = Transformer(str(folder / "bert"), max_seq_length=12)
    SentenceTransformer(modules=[words, Pooling(words.get_embedding_dimension())]).save(
        str(folder / "st")
    )
    return folder / "st"
