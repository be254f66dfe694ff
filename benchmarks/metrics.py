"""Times the lexical metrics, and compares self-BLEU and self-ROUGE-L with nltk and rouge-score.

    python benchmarks/metrics.py [--groups 1000] [--workers 2] [--reference 5]

The groups are ten outputs of 200 words each, drawn from a Zipf-like vocabulary around common
phrases, so that outputs of a group share n-grams as real ones do. The reference libraries are run
on the first few groups only; the ratio is of CPU time, from tokens to value, in one process.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable
from itertools import combinations
from typing import Any

import baco.metrics
from baco.metrics.ngrams import self_bleu, self_rouge_l
from baco.metrics.words import words

OUTPUTS, LENGTH = 10, 200


def make_groups(number: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    vocabulary = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "ndrstlmkpbgf"]
    weights = [1 / (i + 1) for i in range(len(vocabulary))]
    groups: list[dict[str, Any]] = []
    for index in range(number):
        phrases = [draw.choices(vocabulary, weights, k=8) for _ in range(30)]
        texts = []
        for _ in range(OUTPUTS):
            text: list[str] = []
            while len(text) < LENGTH:
                text += (
                    draw.choice(phrases)
                    if draw.random() < 0.4
                    else draw.choices(vocabulary, weights, k=4)
                )
                if draw.random() < 0.3:
                    text[-1] += "."
            texts.append(" ".join(text[:LENGTH]))
        groups.append({"prompt": f"prompt {index}", "generations": texts})
    return groups


def nltk_self_bleu(tokens: list[list[str]]) -> float:
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smooth = SmoothingFunction().method1
    scores = [
        sentence_bleu(
            tokens[:i] + tokens[i + 1 :], mine, smoothing_function=smooth, auto_reweigh=True
        )
        for i, mine in enumerate(tokens)
    ]
    return float(sum(scores) / len(scores))


def reference_rouge(texts: list[str]) -> float:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    scores = [scorer.score(a, b)["rougeL"].fmeasure for a, b in combinations(texts, 2)]
    return float(sum(scores) / len(scores))


def timed(function: Callable[[], list[float]]) -> tuple[float, list[float]]:
    start = time.process_time()
    values = function()
    return time.process_time() - start, values


def compare(name: str, ours: Callable[[], list[float]], theirs: Callable[[], list[float]]) -> None:
    ours()  # imports
    fast, mine = timed(ours)
    slow, known = timed(theirs)
    worst = max(abs(a - b) for a, b in zip(mine, known, strict=True))
    print(
        f"{name:13} {fast / len(mine) * 1e3:9.2f} ms CPU a group, reference "
        f"{slow / len(mine) * 1e3:9.1f} ms, ratio {slow / fast:6.1f}, differences <= {worst:.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--reference", type=int, default=5)
    options = parser.parse_args()
    groups = make_groups(options.groups)
    few = [g["generations"] for g in groups[: options.reference]]
    tokens = [[words(t) for t in texts] for texts in few]
    compare(
        "self_bleu",
        lambda: [self_bleu(t) for t in tokens],
        lambda: [nltk_self_bleu(t) for t in tokens],
    )
    compare(
        "self_rouge_l",
        lambda: [self_rouge_l(x, t) for x, t in zip(few, tokens, strict=True)],
        lambda: [reference_rouge(x) for x in few],
    )
    start, before = time.perf_counter(), os.times()
    scores = baco.metrics.score(groups, "lexical", workers=options.workers, cache=False)
    seconds, after = time.perf_counter() - start, os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    print(
        f"all lexical metrics of {options.groups} groups of {OUTPUTS} outputs of {LENGTH} words: "
        f"{seconds:.1f} s with {options.workers} workers, {cpu:.1f} s of CPU time in all"
    )
    print("means:", ", ".join(f"{k} {v:.4f}" for k, v in scores.means.items()))


if __name__ == "__main__":
    main()
