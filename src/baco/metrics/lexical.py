"""Lexical diversity: one tokenisation, all metrics of a group together."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace

from baco.metrics.groups import Generations
from baco.metrics.kernels import vendi
from baco.metrics.ngrams import (
    distinct,
    expected_distinct,
    jaccard,
    self_bleu,
    self_bleu_pairwise,
    self_rouge_l,
)
from baco.metrics.passes import Passes
from baco.metrics.spec import METRICS, Item, Metric, count, one, resolve, zero
from baco.metrics.words import mostly_not_ascii, tokenizer_name, words

WORDS_VOCABULARY = 128256
"""Vocabulary size assumed where words stand in for a model's tokens (that of Llama 3)."""

_EAD_BOUND = "[0, 1.582]"


def lexical_value(metric: Metric, texts: Sequence[str], tokens: Sequence[Sequence[str]]) -> float:
    """Value of a lexical metric on one group.

    Args:
        metric: A metric that works on words.
        texts: The outputs.
        tokens: Words of each output.

    Returns:
        The value; NaN where it is undefined.
    """
    base = metric.base_name
    if base.startswith("dist_"):
        return distinct(tokens, metric.order)
    if base.startswith("ead_"):
        return expected_distinct(tokens, metric.order, WORDS_VOCABULARY)
    if base == "self_bleu":
        return self_bleu(tokens)
    if base == "self_bleu_pairwise":
        return self_bleu_pairwise(tokens)
    if base == "self_rouge_l":
        return self_rouge_l(texts, tokens, [mostly_not_ascii(text) for text in texts])
    return vendi(jaccard(tokens))


def lexical_values(texts: Item, names: tuple[str, ...], tokenizer: str) -> list[float]:
    """Values of several lexical metrics on one group; runs in worker processes.

    Args:
        texts: The outputs.
        names: Metrics that work on words.
        tokenizer: Word tokenizer, see `baco.metrics.words.words`.

    Returns:
        The values in the order of ``names``.
    """
    tokens = [words(text, tokenizer) for text in texts]
    return [lexical_value(resolve(name), texts, tokens) for name in names]


def on_words(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Scores groups by a metric on words, together with all others that were asked for."""
    tokenizer = tokenizer_name()
    passes.made_by[metric.name] = tokenizer
    if metric.base_name.startswith("ead_"):
        passes.made_by[metric.name] += f", V = {WORDS_VOCABULARY}"
    names = passes.lexical if metric.name in passes.lexical else (metric.name,)
    versions = ",".join(f"{name}:{resolve(name).version}" for name in names)
    found = passes.run(
        f"lexical|{tokenizer}|{versions}",
        [group.generations for group in groups],
        lambda items: passes.over_workers(
            functools.partial(lexical_values, names=names, tokenizer=tokenizer), items
        ),
    )
    place = names.index(metric.name)
    return [float(values[place]) for values in found]


def on_tokens(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Scores groups by EAD on the aligned model's tokens; by words where ``@words`` says so."""
    if metric.variant == "words":
        return on_words(groups, passes, metric)
    from baco.metrics.hf import load_tokenizer

    model = passes.model(metric)
    tokenizer = load_tokenizer(model)
    vocabulary = len(tokenizer)
    passes.made_by[metric.name] = f"tokens of {model.label}, V = {vocabulary}"
    values = []
    for group in groups:
        texts = list(group.generations)
        ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        values.append(expected_distinct(ids, metric.order, vocabulary))
    return values


def is_short(metric: Metric, value: float) -> bool:
    """Whether a group was too short for a metric: no output has n words or tokens."""
    return metric.base_name.startswith(("dist_", "ead_")) and not math.isnan(value) and value == 0


for _order in (1, 2, 3):
    METRICS.add(
        f"dist_{_order}",
        Metric(
            name=f"dist_{_order}",
            kind="lexical",
            direction="up",
            range="[0, 1]",
            theory="1",
            theory_end=one,
            model="-",
            source="Paper: App. C.1; Li et al. 2016",
            compute=on_words,
            default=True,
            pairwise=False,
        ),
    )

METRICS.add(
    "ead_1",
    Metric(
        name="ead_1",
        kind="lexical",
        direction="up",
        range=_EAD_BOUND,
        theory="1",
        theory_end=one,
        model="aligned tokenizer",
        source="Paper: App. C.1; Liu et al. 2022",
        compute=on_tokens,
        default=True,
        pairwise=False,
        role="aligned",
        stand_ins=("words",),
    ),
)

_SELF_BLEU = Metric(
    name="self_bleu",
    kind="lexical",
    direction="down",
    range="[0, 1]",
    theory="0",
    theory_end=zero,
    model="-",
    source="Paper: App. C.1; Zhu et al. 2018",
    compute=on_words,
    default=True,
)

for _metric in (
    _SELF_BLEU,
    replace(_SELF_BLEU, name="self_rouge_l", source="Paper: App. C.1; Lin 2004"),
    replace(
        _SELF_BLEU,
        name="self_bleu_pairwise",
        source="Paper: App. C.1, the words in place of the formula",
        default=False,
    ),
):
    METRICS.add(_metric.name, _metric)

METRICS.add(
    "vendi_ngram",
    Metric(
        name="vendi_ngram",
        kind="lexical",
        direction="up",
        range="[1, n]",
        theory="n",
        theory_end=count,
        model="-",
        source="Paper: App. C.1; Friedman & Dieng 2023, Jaccard of word sets",
        compute=on_words,
        pairwise=False,
    ),
)
