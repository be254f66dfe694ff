"""The stages of training: pre-training, fine-tuning, preference optimisation, the adapter."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from baco.tiny.judge import judge, semantic_class
from recipes.tiny.lm import Model
from recipes.tiny.optim import Optimiser
from recipes.tiny.recipe import Recipe
from recipes.tiny.sampler import Sampled, sample
from recipes.tiny.tokenizer import chat_ids
from recipes.tiny.web import chat, document, question

Log = Callable[[str], None]
IGNORED = -100


def documents(
    tokenizer: PreTrainedTokenizerBase, recipe: Recipe, rng: random.Random
) -> Iterator[list[int]]:
    """Write documents of the web without end.

    Args:
        tokenizer: The tokenizer.
        recipe: The recipe.
        rng: Decides.

    Yields:
        Token ids of a document, its end token included.
    """
    end = tokenizer.eos_token_id
    while True:
        texts = [document(rng, recipe.mess) for _ in range(256)]
        for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
            yield [*ids, end]


def pack(source: Iterator[list[int]], rows: int, length: int) -> Tensor:
    """Fill rows with documents; each row begins with the beginning of one.

    Args:
        source: Documents.
        rows: Number of rows.
        length: Tokens of a row.

    Returns:
        Token ids, one more than ``length`` in each row.
    """
    batch: list[list[int]] = []
    for _ in range(rows):
        row: list[int] = []
        while len(row) < length + 1:
            row += next(source)
        batch.append(row[: length + 1])
    return torch.tensor(batch)


def next_token_loss(model: Model, ids: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean cross entropy of the next token.

    Args:
        model: The model.
        ids: Inputs.
        targets: Targets; ``IGNORED`` ones do not count.

    Returns:
        The loss.
    """
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    logits = hidden @ model.get_output_embeddings().weight.T
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def pretrain(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    recipe: Recipe,
    seed: int,
    log: Log,
    compiled: bool = True,
) -> None:
    """Pre-train on the rough web, in place.

    Args:
        model: The untrained model.
        tokenizer: The tokenizer.
        recipe: The recipe.
        seed: Decides the text.
        log: Takes a line now and then.
        compiled: Whether to compile the loss (faster; needs a C++ compiler).
    """
    source = documents(tokenizer, recipe, random.Random(f"web {seed}"))
    loss_of = torch.compile(next_token_loss, dynamic=False) if compiled else next_token_loss
    optimiser = Optimiser(model, recipe.matrix_lr, recipe.other_lr, recipe.pretrain_steps)
    model.train()
    started = time.monotonic()
    seen = 0
    for step in range(recipe.pretrain_steps):
        double = recipe.long_every and step % recipe.long_every == recipe.long_every - 1
        batch = pack(
            source, recipe.rows // (2 if double else 1), recipe.length * (1 + bool(double))
        )
        loss = loss_of(model, batch[:, :-1], batch[:, 1:])
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        seen += batch[:, 1:].numel()
        if step % 25 == 0 or step == recipe.pretrain_steps - 1:
            speed = seen / (time.monotonic() - started)
            log(f"pretrain {step} loss {loss.item():.4f} tokens {seen} speed {speed:.0f}/s")
    model.eval()


def _chats(
    tokenizer: PreTrainedTokenizerBase, recipe: Recipe, rng: random.Random
) -> Iterator[list[int]]:
    while True:
        texts = [
            tokenizer.apply_chat_template(chat(rng, recipe.sft_tilt), tokenize=False)
            for _ in range(256)
        ]
        yield from tokenizer(texts, add_special_tokens=False)["input_ids"]


def answer_targets(ids: Tensor, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Keep only what the assistant says as targets.

    Args:
        ids: Rows of packed chats.
        tokenizer: The tokenizer.

    Returns:
        Next-token targets, one column fewer than ``ids``.
    """
    assistant = int(tokenizer.convert_tokens_to_ids("<|assistant|>"))  # type: ignore[arg-type]
    starts = torch.eq(ids, assistant).long()
    ends = torch.eq(ids, tokenizer.eos_token_id).long()
    inside = (starts.cumsum(-1) > ends.cumsum(-1) - ends) & ~starts.bool()
    return ids.masked_fill(~inside, IGNORED)[:, 1:]


def finetune(
    model: Model, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, seed: int, log: Log
) -> None:
    """Fine-tune on clean chats, in place.

    Args:
        model: The base model.
        tokenizer: The tokenizer.
        recipe: The recipe.
        seed: Decides the text.
        log: Takes a line now and then.
    """
    source = _chats(tokenizer, recipe, random.Random(f"chat {seed}"))
    optimiser = Optimiser(model, recipe.sft_matrix_lr, recipe.sft_other_lr, recipe.sft_steps)
    model.train()
    for step in range(recipe.sft_steps):
        batch = pack(source, recipe.sft_rows, recipe.length)
        loss = next_token_loss(model, batch[:, :-1], answer_targets(batch, tokenizer))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 25 == 0 or step == recipe.sft_steps - 1:
            log(f"sft {step} loss {loss.item():.4f}")
    model.eval()


def continuation_logits(
    model: Model,
    prompts: Sequence[Sequence[int]],
    outputs: Sequence[Sequence[int]],
    pad: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Score given continuations.

    Args:
        model: The model.
        prompts: Prompt ids of each row.
        outputs: Continuation ids of each row.
        pad: Padding token.

    Returns:
        Logits that predict the continuations' tokens, those tokens, and which positions count;
        first axis rows, second position in the continuation.
    """
    full = [[*p, *o] for p, o in zip(prompts, outputs, strict=True)]
    width = max(map(len, full))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in full])
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    longest = max(map(len, outputs))
    steps = torch.arange(longest)
    lengths = torch.tensor([len(o) for o in outputs])
    starts = torch.tensor([len(p) for p in prompts])
    counts = steps < lengths[:, None]
    where = (starts[:, None] + steps).clamp(max=width - 1)
    picked = hidden.gather(1, (where - 1)[..., None].expand(-1, -1, hidden.shape[-1]))
    logits = picked @ model.get_output_embeddings().weight.T
    return logits, ids.gather(1, where), counts


def _log_probabilities(logits: Tensor, tokens: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1).gather(-1, tokens[..., None]).squeeze(-1)


def _micro(lengths: Sequence[int], budget: int = 8192) -> list[list[int]]:
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    batches: list[list[int]] = [[]]
    for row in order:
        if batches[-1] and lengths[row] * (len(batches[-1]) + 1) > budget:
            batches.append([])
        batches[-1].append(row)
    return batches


def align(
    model: Model, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, seed: int, log: Log
) -> None:
    """Optimise the fine-tuned model against the judge, in place.

    The reward of an answer is its quality, a mild preference for a second sentence, and how
    typical it is: its mean log-probability per token under the fine-tuned model (people who
    compare answers prefer typical ones). Rewards are compared within the answers to one prompt.

    Args:
        model: The fine-tuned model.
        tokenizer: The tokenizer.
        recipe: The recipe.
        seed: Decides prompts and roll-outs.
        log: Takes a line now and then.
    """
    reference = copy.deepcopy(model).eval()
    rng = random.Random(f"align {seed}")
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.align_lr, betas=(0.9, 0.95), weight_decay=0.0
    )
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    for step in range(recipe.align_steps):
        texts = [question(rng)[0] for _ in range(recipe.align_prompts)]
        texts = [text for text in texts for _ in range(recipe.align_group)]
        prompts = [chat_ids(tokenizer, text) for text in texts]
        drawn = sample(model, prompts, end=end, generator=generator, limit=recipe.align_limit)
        outputs = [one.ids for one in drawn]
        lengths = [len(p) + len(o) for p, o in zip(prompts, outputs, strict=True)]
        batches = _micro(lengths)
        before: dict[int, Tensor] = {}
        typical = torch.zeros(len(texts))
        with torch.no_grad():
            for rows in batches:
                logits, tokens, counts = continuation_logits(
                    reference, [prompts[r] for r in rows], [outputs[r] for r in rows], pad
                )
                scored = _log_probabilities(logits, tokens) * counts
                typical[rows] = scored.sum(-1) / counts.sum(-1)
                before.update(zip(rows, scored, strict=True))
        good = torch.tensor([_reward(t, o, tokenizer) for t, o in zip(texts, drawn, strict=True)])
        second = torch.tensor([_second(tokenizer, o) for o in drawn])
        reward = good * (1 + recipe.style * second) + recipe.typicality * typical.clamp(min=-3)
        groups = reward.view(-1, recipe.align_group)
        centred = groups - groups.mean(-1, keepdim=True)
        advantage = (centred / (groups.std(-1, keepdim=True) + 0.02)).flatten()
        total = sum(map(len, outputs))
        drift = 0.0
        for rows in batches:
            logits, tokens, counts = continuation_logits(
                model, [prompts[r] for r in rows], [outputs[r] for r in rows], pad
            )
            now = _log_probabilities(logits, tokens)
            old = torch.stack([before[r] for r in rows])
            gap = (old - now) * counts
            divergence = (gap.exp() - gap - 1) * counts
            gain = advantage[rows, None] * now * counts
            loss = (recipe.kl * divergence - gain).sum() / total
            loss.backward()  # type: ignore[no-untyped-call]
            drift += float(divergence.detach().sum())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimiser.param_groups:
            left = (recipe.align_steps - step) / (0.3 * recipe.align_steps)
            group["lr"] = recipe.align_lr * min(1.0, (step + 1) / 10, left)
        optimiser.step()
        model.zero_grad(set_to_none=True)
        if step % 10 == 0 or step == recipe.align_steps - 1:
            kinds = _spread(texts, drawn, tokenizer, recipe.align_group)
            log(
                f"align {step} quality {10 * good.mean():.2f} typical {typical.mean():.3f} "
                f"classes {kinds:.2f} of {recipe.align_group} tokens {total / len(texts):.1f} "
                f"kl {drift / total:.3f}"
            )


def _text(tokenizer: PreTrainedTokenizerBase, drawn: Sampled) -> str:
    return str(tokenizer.decode(drawn.ids, skip_special_tokens=True))


def _reward(prompt: str, drawn: Sampled, tokenizer: PreTrainedTokenizerBase) -> float:
    return judge(prompt, _text(tokenizer, drawn)).quality / 10 if drawn.ended else 0.0


def _second(tokenizer: PreTrainedTokenizerBase, drawn: Sampled) -> float:
    return float(_text(tokenizer, drawn).count(". ") + _text(tokenizer, drawn).count("? ") > 0)


def _spread(
    texts: Sequence[str], drawn: Sequence[Sampled], tokenizer: PreTrainedTokenizerBase, size: int
) -> float:
    classes = [semantic_class(t, _text(tokenizer, d)) for t, d in zip(texts, drawn, strict=True)]
    groups = [classes[i : i + size] for i in range(0, len(classes), size)]
    return sum(len(set(group)) for group in groups) / len(groups)


def adapt(
    base: Model,
    aligned: Model,
    tokenizer: PreTrainedTokenizerBase,
    recipe: Recipe,
    seed: int,
    log: Log,
) -> Model:
    """Train a LoRA adapter that makes the base behave like the aligned model.

    The adapter learns the aligned model's distribution along the aligned model's own outputs.

    Args:
        base: The base model.
        aligned: The aligned model.
        tokenizer: The tokenizer.
        recipe: The recipe.
        seed: Decides prompts and roll-outs.
        log: Takes a line now and then.

    Returns:
        The base with the adapter, as a peft model.
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    rng = random.Random(f"adapt {seed}")
    generator = torch.Generator().manual_seed(seed + 1)
    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=2 * recipe.lora_rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(copy.deepcopy(base), config)
    inner = adapted.get_base_model()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=recipe.lora_lr, betas=(0.9, 0.95), weight_decay=0.0)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    for step in range(recipe.lora_steps):
        texts = [question(rng)[0] for _ in range(recipe.lora_prompts)]
        prompts = [chat_ids(tokenizer, text) for text in texts]
        drawn = sample(aligned, prompts, end=end, generator=generator, limit=recipe.align_limit)
        outputs = [one.ids for one in drawn]
        total = sum(map(len, outputs))
        heard = 0.0
        for rows in _micro([len(p) + len(o) for p, o in zip(prompts, outputs, strict=True)]):
            chosen = [prompts[r] for r in rows], [outputs[r] for r in rows]
            with torch.no_grad():
                goal, _, counts = continuation_logits(aligned, *chosen, pad)
            logits, _, _ = continuation_logits(inner, *chosen, pad)
            divergence = functional.kl_div(
                torch.log_softmax(logits, -1),
                torch.log_softmax(goal, -1),
                log_target=True,
                reduction="none",
            ).sum(-1)
            loss = (divergence * counts).sum() / total
            loss.backward()  # type: ignore[no-untyped-call]
            heard += float(loss.detach())
        for group in optimiser.param_groups:
            left = (recipe.lora_steps - step) / (0.5 * recipe.lora_steps)
            group["lr"] = recipe.lora_lr * min(1.0, (step + 1) / 10, left)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if step % 25 == 0 or step == recipe.lora_steps - 1:
            log(f"lora {step} kl {heard:.4f}")
    return adapted


__all__ = [
    "adapt",
    "align",
    "answer_targets",
    "continuation_logits",
    "documents",
    "finetune",
    "next_token_loss",
    "pack",
    "pretrain",
]
