"""A learned router against hand-made ones, on prompts that neither was chosen on.

    baco router train router.json
    python -m benchmarks.router router.json --json docs/methods/router.json

Hand-made routers, each at several thresholds, are tried on the prompts that the learned one was
trained on (the bundled world's calibration prompts). Two are taken: the setting with the largest
reward, and the router whose curve has the largest Coverage (mean over both spaces). Then these and
the learned router answer the held-out prompts. About 80 settings are measured, of 5 to 15 seconds
each on a quiet core. `--only p-punc@0.2 p-punc@0.3` shows a few settings in a minute.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import baco
from baco.pair import Pair
from baco.routers.training import different_good_answers
from baco.tiny.world import WorldPrompt, prompts
from baco.tradeoff.dominance import dominance
from recipes.tiny.decode import Answer
from recipes.tiny.evaluate import Figures, N, coverages, figures, placed

LIMIT = 128
SPACES = ("classes", "valid_classes")
GRID = (0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)
HANDMADE: dict[str, Sequence[float]] = {
    "rand": GRID,
    "p": GRID,
    "p-punc": GRID,
    "p-fc": GRID,
    "p-a": (0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 0.999),
    "pr": (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9),
    "h-punc": (3.5, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5),
    "hr": (100, 30, 10, 5, 3, 2, 1),
}
LEARNED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)


def measure(pair: Pair, asked: Sequence[WorldPrompt], seed: int, **setting: Any) -> Figures:
    groups = pair.generate([p.text for p in asked], n=N, seed=seed, max_new_tokens=LIMIT, **setting)
    answers = [[Answer(s.text, len(s.token_ids), s.base_share) for s in g] for g in groups]
    found = figures(asked, answers)
    rewards = [different_good_answers(p.text, g.texts) for p, g in zip(asked, groups, strict=True)]
    found["reward"] = round(sum(rewards) / len(rewards), 3)
    print(setting, found, flush=True)
    return found


def curve(
    pair: Pair, asked: Sequence[WorldPrompt], router: str, grid: Sequence[float], seed: int
) -> dict[str, Figures]:
    return {f"{g:g}": measure(pair, asked, seed, router=f"{router}@{g:g}") for g in grid}


def references(
    pair: Pair, asked: Sequence[WorldPrompt], seed: int
) -> dict[str, dict[str, Figures]]:
    return {
        name: {"T=1.0": measure(pair, asked, seed, method=name)} for name in ("base", "aligned")
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.router", description=__doc__)
    parser.add_argument("router", help="the file of the learned router")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--seed", type=int, default=1, help="seed of the samples")
    parser.add_argument("--every", type=int, default=1, help="use every so-many-th prompt")
    parser.add_argument("--only", nargs="+", help="just show these specs on held-out prompts")
    options = parser.parse_args(arguments)
    pair, seed = baco.load("tiny"), options.seed
    if options.only:
        for spec in (*options.only, options.router):
            measure(pair, prompts("heldout")[:: options.every], seed, router=spec)
        return 0

    known = prompts("calibration")[:: options.every]
    training = references(pair, known, seed)
    for name, grid in HANDMADE.items():
        training[name] = curve(pair, known, name, grid, seed)
    best = max(
        ((f["reward"], name, gamma) for name in HANDMADE for gamma, f in training[name].items()),
    )
    areas = {space: coverages(training, space) for space in SPACES}
    widest = max(HANDMADE, key=lambda name: sum(areas[space][name] for space in SPACES))
    print(f"chosen on the training prompts: {best[1]}@{best[2]} by reward, {widest} by Coverage")

    fresh = prompts("heldout")[:: options.every]
    heldout = references(pair, fresh, seed)
    for name in dict.fromkeys([best[1], widest]):
        heldout[name] = curve(pair, fresh, name, HANDMADE[name], seed)
    heldout["learned"] = curve(pair, fresh, options.router, LEARNED, seed)
    default = measure(pair, fresh, seed, router=options.router)
    result = {
        "n": N,
        "limit": LIMIT,
        "seed": seed,
        "prompts": {"training": len(known), "heldout": len(fresh)},
        "training": training,
        "training_coverage": areas,
        "chosen_by_reward": f"{best[1]}@{best[2]}",
        "chosen_by_coverage": widest,
        "heldout": heldout,
        "learned_default": default,
        "coverage": {space: coverages(heldout, space) for space in SPACES},
        "dominance": {
            space: {
                name: [round(x, 3) for x in (d.dom_d, d.dom_q, d.dom_share)]
                for name, d in dominance(placed(heldout, space)).items()
            }
            for space in SPACES
        },
    }
    chosen = heldout[best[1]][best[2]]
    print(f"held-out reward: {best[1]}@{best[2]} {chosen['reward']}, learned {default['reward']}")
    print("held-out Coverage:", result["coverage"])
    print("held-out Dominance (diversity, quality, share):", result["dominance"])
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
