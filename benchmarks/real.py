"""Speed on the fetched pairs, beside transformers' `generate` of the aligned model alone.

Run: ``baco pairs fetch real`` once, then ``OMP_NUM_THREADS=1 python -m benchmarks.real``
(``--times N``). Contestants take turns, and what counts is processor time per token of a sample, as
ratios: other work on the machine moves it less than the clock on the wall. Figures are kept in
`benchmarks/results/real.json`.

``--sequences FILE`` asks what look-ahead could bring across tokenizers, from who spoke in answers
that were made before (``baco bench export real.sqlite --out FILE``); no model runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import baco
from baco.prompts import conversation_of
from benchmarks.record import keep

PROMPT = "Suggest a name for a dappled-gray filly living in the mountains."
SPEC = "p-punc@0.3"
TOKENS = 32
WARM_UP = 4
COUNTS = (1, 10)


def ours(pair: Any, n: int, tokens: int, **how: Any) -> tuple[float, float]:
    """Processor seconds per token, and passes of both models per token of the longest sample."""
    start = time.process_time()
    group = pair.generate(PROMPT, n=n, max_new_tokens=tokens, **how)
    seconds = time.process_time() - start
    passes = group.stats.base_passes + group.stats.aligned_passes
    lengths = [len(sample.token_ids) for sample in group]
    return seconds / sum(lengths), passes / max(lengths)


def theirs(pair: Any, n: int, tokens: int) -> float:
    """Processor seconds per token of `generate` of the aligned model alone."""
    partner = pair.aligned
    prompt = pair.sides[1].encode(conversation_of(PROMPT))
    ids = torch.tensor([prompt]) - partner.offset
    start = time.process_time()
    partner.inner.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        top_p=0.9,
        top_k=0,
        num_return_sequences=n,
        min_new_tokens=tokens,
        max_new_tokens=tokens,
        pad_token_id=0,
    )
    return (time.process_time() - start) / (n * tokens)


def row(pair: Any, n: int, times: int) -> dict[str, Any]:
    """Measures one pair at one n: medians over rounds, after a short one that does not count."""
    rounds = [
        (
            theirs(pair, n, tokens),
            ours(pair, n, tokens, method="aligned"),
            ours(pair, n, tokens, router=SPEC),
        )
        for tokens in (WARM_UP, *[TOKENS] * times)
    ][1:]
    generate = statistics.median(r[0] for r in rounds)
    alone = statistics.median(r[1][0] for r in rounds)
    both = statistics.median(r[2][0] for r in rounds)
    aligned, base = pair.aligned.inner, pair.base.inner
    sizes = aligned.parameters + (base.parameters if base.weights is not aligned.weights else 0)
    return {
        "pair": pair.name,
        "n": n,
        "generate_ms": 1e3 * generate,
        "aligned_ms": 1e3 * alone,
        "baco_ms": 1e3 * both,
        "to_generate": generate / both,
        "lowest": min(r[0] / r[2][0] for r in rounds),
        "highest": max(r[0] / r[2][0] for r in rounds),
        "limit": aligned.parameters / sizes,
        "passes": rounds[0][2][1],
    }


def ahead(sources: list[bool], most: int) -> int:
    """Passes that one answer takes where the side that speaks guesses that it goes on.

    Every token is taken for the beginning of a unit, where both sides are asked. The side that
    speaks writes on by itself, and the other then reads all of it in one pass; what comes after
    the first decision that gives the other side the word is wasted.

    Args:
        sources: Whether base spoke, for each token.
        most: Most guesses at a time; 0 for lock-step.
    """
    if not most:
        return 2 * len(sources)
    passes, t = 2, 1  # the first token has no guess
    while t < len(sources):
        rest = sources[t:]
        right = next((k for k, s in enumerate(rest) if s != sources[t - 1]), len(rest))
        guesses = most if right < len(rest) else min(most, right)
        passes += guesses + 1
        t += min(right, guesses)
        if t < len(sources):
            passes += right >= guesses  # the other side has scored this place, this one has not
            t += 1
    return passes


def sequences(file: Path) -> None:
    """Prints, for each setting of BaCo, who spoke and what guesses would bring."""
    found = defaultdict(list)
    for line in file.read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        if sample["method"] == "baco":
            spoke = [source == "base" for source in sample["sources"]]
            found[f"{sample['router']}@{sample['control']:g}"].append(spoke)
    print("| setting | tokens | base share | switches a token | passes a token, 0 to 4 guesses |")
    for name, answers in found.items():
        tokens = sum(map(len, answers))
        switches = sum(a != b for spoke in answers for a, b in pairwise(spoke))
        passes = [sum(ahead(s, k) for s in answers if s) / tokens for k in range(5)]
        print(
            f"| {name} | {tokens} | {sum(map(sum, answers)) / tokens:.2f} "
            f"| {switches / tokens:.2f} | {', '.join(f'{p:.2f}' for p in passes)} |"
        )


def main() -> None:
    """Measures both pairs, prints a table, and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3, help="rounds that count")
    parser.add_argument("--sequences", type=Path, help="answers; no model runs")
    options = parser.parse_args()
    if options.sequences:
        sequences(options.sequences)
        return
    times = options.times
    torch.manual_seed(0)
    print(
        "| pair | n | generate, ms a token | aligned alone, ours | p-punc@0.3 | speed to generate"
    )
    rows = []
    for name in ("real", "real-plain"):
        pair = baco.load(name, dtype="float32", device="cpu")
        for n in COUNTS:
            rows.append(found := row(pair, n, times))
            print(
                f"| {name} | {n} | {found['generate_ms']:.1f} | {found['aligned_ms']:.1f} "
                f"| {found['baco_ms']:.1f} | {found['to_generate']:.2f} ({found['lowest']:.2f} to "
                f"{found['highest']:.2f}; limit by parameters {found['limit']:.2f}) "
                f"| {found['passes']:.2f} passes a token",
                flush=True,
            )
    asked = {"prompt": PROMPT, "router": SPEC, "tokens": TOKENS, "times": times}
    keep("real", {"asked": asked, "threads": torch.get_num_threads(), "rows": rows})


if __name__ == "__main__":
    main()
