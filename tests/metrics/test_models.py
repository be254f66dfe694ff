"""Metrics with models: tiny random ones of the right architectures, compared with plain code."""

from __future__ import annotations

import itertools
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import baco.metrics
from baco.errors import InputError
from baco.metrics.kernels import discrete_entropy, semantic_entropy
from baco.metrics.models import find_model
from baco.metrics.partition import short_rule
from baco.models.known import bundled_folder

from . import tiny_models

pytestmark = pytest.mark.filterwarnings("ignore:.*fork_rng.*")

TEXTS = [
    "Paris is the capital of France and the sun is warm there",
    "Rome is the capital of Italy",
    "Paris is the capital of France and the sun is warm there",
    "one two three four five fox dog cat",
    "",
]
LONG = "the quick brown fox jumps over the lazy dog " * 30
GROUP = {"prompt": "the capital of France", "generations": TEXTS}

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    made: dict[Any, Path] = {}

    def once(builder: Callable[..., Path], *args: Any, **kwargs: Any) -> Path:
        key = (builder.__name__, args, tuple(kwargs.items()))
        if key not in made:
            made[key] = builder(tmp_path_factory.mktemp("model"), *args, **kwargs)
        return made[key]

    return once


def value(name: str, model: Path | str = "", group: Any = None, **options: Any) -> float:
    full = f"{name}@{model}" if model else name
    options.setdefault("cache", False)
    return baco.metrics.score([group or GROUP], full, **options).means[full]


def logits(folder: Path, a: str, b: str, **cut: Any) -> np.ndarray:
    """One pair at a time, through transformers alone."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = tokenizer(a, b, return_tensors="pt", **cut)
    inputs.pop("token_type_ids", None)
    with torch.inference_mode():
        return torch.softmax(model(**inputs).logits.double(), -1)[0].numpy()


ORDERS = [
    ("contradiction", "entailment", "neutral"),
    ("CONTRADICTION", "NEUTRAL", "ENTAILMENT"),
]


@pytest.mark.parametrize("names", ORDERS)
def test_nli_reads_the_label_order_and_both_directions(make: Make, names: tuple[str, ...]) -> None:
    folder = make(tiny_models.roberta, *names)
    for metric, word in (("nli_entail", "entail"), ("nli_contradiction", "contra")):
        place = next(i for i, n in enumerate(names) if n.lower().startswith(word))
        pairs = itertools.permutations(TEXTS, 2)
        expected = np.mean([logits(folder, a, b)[place] for a, b in pairs])
        assert value(metric, folder) == pytest.approx(expected, abs=1e-6)
        turned = {**GROUP, "generations": TEXTS[::-1]}
        assert value(metric, folder, turned) == pytest.approx(expected, abs=1e-6)


def test_labels_must_be_named(make: Make) -> None:
    folder = make(tiny_models.roberta, "LABEL_0", "LABEL_1", "LABEL_2")
    with pytest.raises(InputError, match="no single label 'entail'"):
        value("nli_entail", folder)


def test_long_pairs_are_cut_longest_first(make: Make) -> None:
    folder = make(tiny_models.roberta, *ORDERS[0], positions=40)
    group = {"prompt": "", "generations": [LONG, "Rome"]}
    cut = {"truncation": "longest_first", "max_length": 39}
    both = [logits(folder, LONG, "Rome", **cut)[1], logits(folder, "Rome", LONG, **cut)[1]]
    assert value("nli_entail", folder, group) == pytest.approx(np.mean(both), abs=1e-6)


@pytest.mark.parametrize("size", [1, 3, 64])
def test_batch_size_changes_nothing(make: Make, size: int) -> None:
    nli = make(tiny_models.roberta, *ORDERS[0])
    encoder = make(tiny_models.sentence_transformer)
    reward = make(tiny_models.gemma_reward)
    aligned = make(tiny_models.gemma_chat)
    for name, model in (
        ("nli_entail", nli),
        ("emb_cos", encoder),
        ("reward", reward),
        ("ppl", aligned),
    ):
        alone = value(name, model, batch_size=2)
        assert value(name, model, batch_size=size) == pytest.approx(alone, rel=1e-4), name


@pytest.mark.parametrize("version", [2, 3])
def test_noveltybench_classifier(make: Make, version: int) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = make(tiny_models.deberta, "different", "same", version=version)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def same(a: str, b: str) -> bool:
        ruled = short_rule(a, b)
        if ruled is not None:
            return ruled
        ids = [tokenizer.cls_token_id]
        for text in (a, b):
            ids += tokenizer(text, add_special_tokens=False)["input_ids"][:128]
            ids.append(tokenizer.sep_token_id)
        with torch.inference_mode():
            scores = model(input_ids=torch.tensor([ids])).logits
        return bool(torch.softmax(scores.double(), -1)[0, 1] > 0.102)

    texts = [*TEXTS, LONG, f"{LONG} fox", "Italy and France and Rome and Paris is warm"]
    firsts: list[str] = []
    for text in texts:
        if not any(same(first, text) for first in firsts):
            firsts.append(text)
    group = {"prompt": "", "generations": texts}
    assert value("nb_distinct", folder, group) == len(firsts)


@pytest.mark.parametrize("version", [2, 3])
def test_semantic_entropy(make: Make, version: int) -> None:
    folder = make(tiny_models.deberta, *ORDERS[1], version=version)
    aligned = make(tiny_models.gemma_chat)
    question = GROUP["prompt"]

    def entails(a: str, b: str) -> bool:
        found = logits(folder, f"{question} {a}", f"{question} {b}")
        return int(np.argmax(found)) == 2

    classes = [-1] * len(TEXTS)
    for i in range(len(TEXTS)):
        if classes[i] < 0:
            classes[i] = max(classes) + 1
            for j in range(i + 1, len(TEXTS)):
                both = entails(TEXTS[i], TEXTS[j]) and entails(TEXTS[j], TEXTS[i])
                if classes[j] < 0 and both:
                    classes[j] = classes[i]
    assert value("se_discrete", folder) == pytest.approx(discrete_entropy(classes), abs=1e-9)
    likelihoods = [np.mean(token_logprobs(aligned, question, t)) for t in TEXTS]
    expected = semantic_entropy(classes, likelihoods)
    found = value("semantic_entropy", folder, aligned=str(aligned))
    assert found == pytest.approx(expected, abs=1e-5)


def token_logprobs(folder: Path, prompt: str, text: str, *, end: bool = True) -> list[float]:
    """Token by token, one forward pass for each."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    head = f"<bos><turn>user\n{prompt}<end>\n<turn>assistant\n"
    ids = tokenizer(head, add_special_tokens=False)["input_ids"]
    target = tokenizer(text, add_special_tokens=False)["input_ids"]
    target += [tokenizer.convert_tokens_to_ids("<end>")] * end
    found = []
    for token in target:
        with torch.inference_mode():
            scores = model(input_ids=torch.tensor([ids])).logits[0, -1]
        found.append(float(torch.log_softmax(scores.double(), -1)[token]))
        ids = [*ids, token]
    return found


def test_perplexity_scores_the_end_of_turn_unless_cut(make: Make) -> None:
    folder = make(tiny_models.gemma_chat)
    prompt = GROUP["prompt"]
    nlls = [-np.mean(token_logprobs(folder, prompt, t)) for t in TEXTS]
    assert value("ppl", folder) == pytest.approx(np.mean(np.exp(nlls)), rel=1e-4)
    assert value("nll", folder) == pytest.approx(np.mean(nlls), rel=1e-4)
    assert value("ppl_geo", folder) == pytest.approx(np.exp(np.mean(nlls)), rel=1e-4)
    empty = {"prompt": prompt, "generations": [""]}
    nll = -token_logprobs(folder, prompt, "")[0]
    assert value("ppl", folder, empty) == pytest.approx(math.exp(nll), rel=1e-4)
    cut = {**GROUP, "finish_reasons": ["length"] * 4 + ["stop"]}
    nlls = [-np.mean(token_logprobs(folder, prompt, t, end=t == "")) for t in TEXTS]
    assert value("ppl", folder, cut) == pytest.approx(np.mean(np.exp(nlls)), rel=1e-4)


@pytest.mark.parametrize("keys", [True, False])
def test_a_prompt_is_read_once_where_the_model_keeps_keys(
    make: Make, keys: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    import baco.metrics.hf as hf

    folder = make(tiny_models.gemma_chat)
    read: list[int] = []
    plain = transformers.Gemma2ForCausalLM.forward

    def counted(self: Any, **inputs: Any) -> Any:
        read.append(inputs["input_ids"].numel())
        return plain(self, **inputs)

    monkeypatch.setattr(transformers.Gemma2ForCausalLM, "forward", counted)
    monkeypatch.setattr(hf, "keeps_keys", lambda model: keys)
    texts = ["Rome is the capital", "Paris is the capital", "the sun is warm"]
    prompts = ["the capital of France", "fox" + 79 * " dog"]  # 64 is the window
    groups = [{"prompt": prompt, "generations": texts} for prompt in prompts]
    found = baco.metrics.score(groups, f"ppl@{folder}", cache=False).column(f"ppl@{folder}")
    assert read == ([89, 3 * 7, 12, 3 * 7] if keys else [3 * (89 + 7), 3 * (12 + 7)])
    for prompt, ppl in zip(prompts, found, strict=True):
        nlls = [-np.mean(token_logprobs(folder, prompt, t)) for t in texts]
        assert ppl == pytest.approx(np.mean(np.exp(nlls)), rel=1e-4)


def test_conversations_are_prompts_too(make: Make) -> None:
    folder = make(tiny_models.gemma_chat)
    talk = [{"role": "user", "content": GROUP["prompt"]}]
    assert value("ppl", folder, {**GROUP, "prompt": talk}) == value("ppl", folder)
    more = [{"role": "system", "content": "fox"}, *talk]
    assert value("ppl", folder, {**GROUP, "prompt": more}) != value("ppl", folder)


def test_an_output_that_does_not_fit_the_model_is_counted(make: Make) -> None:
    folder = make(tiny_models.gemma_chat)
    groups = [GROUP, {"prompt": "", "generations": [LONG, "Rome"]}]
    scores = baco.metrics.score(groups, f"ppl@{folder}", cache=False)
    assert scores.summaries[0].nan == 1
    assert math.isfinite(scores.summaries[0].mean)
    assert scores.to_dict()["groups"][1]["scores"] == {f"ppl@{folder}": None}


def test_reward_is_the_only_logit_at_the_last_token(make: Make) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = make(tiny_models.gemma_reward)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    texts = [t for t in TEXTS if t]
    scores = []
    for text in texts:
        talk = f"<bos><turn>user\n{GROUP['prompt']}<end>\n<turn>assistant\n{text}<end>\n"
        ids = tokenizer(talk, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            scores.append(float(model(input_ids=ids).logits[0, 0]))
    group = {**GROUP, "generations": texts}
    assert value("reward", folder, group) == pytest.approx(np.mean(scores), abs=1e-5)
    raw = baco.metrics.score([group], "reward_raw", models={"reward": str(folder)}, cache=False)
    assert raw.means[f"reward_raw@{folder}"] == pytest.approx(np.mean(scores), abs=1e-5)
    assert "raw score" in raw.models[f"reward_raw@{folder}"]


def test_a_model_with_several_outputs_is_no_reward_model(make: Make) -> None:
    folder = make(tiny_models.roberta, *ORDERS[0])
    with pytest.raises(InputError, match="no reward model"):
        value("reward", folder)


def test_a_model_without_the_weights_of_its_head_is_refused(make: Make) -> None:
    encoder = make(tiny_models.bert)
    for name in ("nli_entail", "nb_distinct", "reward"):
        with pytest.raises(InputError, match=r"it lacks classifier"):
            value(name, encoder)
    judge = make(tiny_models.roberta, *ORDERS[0])
    with pytest.raises(InputError, match="no classifier of equivalence"):
        value("nb_distinct", judge)


def test_a_model_without_template_cannot_score_chats(make: Make, tmp_path: Path) -> None:
    folder = shutil.copytree(make(tiny_models.gemma_chat), tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        value("ppl", folder)


def test_encoders_pool_as_they_should(make: Make) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    plain = make(tiny_models.bert)
    tokenizer = AutoTokenizer.from_pretrained(plain)
    model = AutoModel.from_pretrained(plain).eval()
    pooled, means = [], []
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=64)
        short = tokenizer(text, return_tensors="pt", truncation=True, max_length=12)
        inputs.pop("token_type_ids", None)
        short.pop("token_type_ids", None)
        with torch.inference_mode():
            pooled.append(model(**inputs).pooler_output[0].numpy())
            means.append(model(**short).last_hidden_state[0].mean(0).numpy())
    encoder = make(tiny_models.sentence_transformer)
    from baco.metrics.kernels import cosine_dissimilarity, cosines, vendi

    assert value("vendi_emb", plain) == pytest.approx(vendi(cosines(pooled)), rel=1e-4)
    assert value("emb_cos", encoder) == pytest.approx(cosine_dissimilarity(means), rel=1e-4)
    assert value("vendi_emb", encoder) == pytest.approx(vendi(cosines(means)), rel=1e-4)
    made = baco.metrics.score([GROUP], f"emb_cos@{encoder}", cache=False).models
    assert ", 12 tokens" in made[f"emb_cos@{encoder}"]


def test_ead_uses_the_aligned_models_tokens(make: Make) -> None:
    from transformers import AutoTokenizer

    folder = make(tiny_models.gemma_chat)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    size = len(tokenizer)
    ids = [i for t in TEXTS for i in tokenizer(t, add_special_tokens=False)["input_ids"]]
    expected = len(set(ids)) / (size * (1 - ((size - 1) / size) ** len(ids)))
    assert value("ead_1", group=GROUP, aligned=str(folder)) == pytest.approx(expected, rel=1e-9)


def test_identical_outputs_are_least_diverse_for_every_semantic_metric(make: Make) -> None:
    group = {"prompt": "fox", "generations": [TEXTS[0]] * 4}
    encoder = make(tiny_models.sentence_transformer)
    assert value("emb_cos", encoder, group) == pytest.approx(0, abs=1e-6)
    assert value("vendi_emb", encoder, group) == pytest.approx(1, abs=1e-4)
    short = {"prompt": "fox", "generations": ["a dog"] * 4}
    same = make(tiny_models.deberta, "different", "same")
    assert value("nb_distinct", same, short) == 1


def test_a_copy_of_a_model_has_its_revision(tmp_path: Path) -> None:
    here = bundled_folder("aligned")
    whole = find_model(str(here), offline=True).revision
    copy = Path(shutil.copytree(here, tmp_path / "another" / "place"))
    for file in copy.iterdir():
        os.utime(file, (1, 1))
    assert find_model(str(copy), offline=True).revision == whole
    weights = copy / "model.safetensors"
    size = weights.stat().st_size
    assert size > 2 << 20
    for place in (0, size // 2, size - 1):
        changed = Path(shutil.copytree(copy, tmp_path / f"changed-{place}"))
        with (changed / "model.safetensors").open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1]))
        assert find_model(str(changed), offline=True).revision != whole


def test_what_no_model_can_be_named_is_refused() -> None:
    for offline in (True, False):
        with pytest.raises(InputError, match="no name that a model on the hub can have"):
            find_model("tiny~0.3", offline)
