"""What routers that look ahead cost: passes of each model per token on the bundled pair.

Run: ``python -m benchmarks.ahead``. Engine guesses are off, so that only the routers differ.
"""

from __future__ import annotations

import baco
from baco.tiny.world import prompts

ROUTERS = ("p@0.5", "p-ahead3@0.5", "p-ahead-sentence@0.7")


def main() -> None:
    pair = baco.load("tiny")
    asked = [prompt.text for prompt in prompts("calibration")[::6]]
    print("router", "base", "aligned", sep="\t")
    for router in ROUTERS:
        groups = pair.generate(
            asked, n=4, router=router, max_new_tokens=128, lookahead="off", seed=0
        )
        tokens = sum(len(sample.token_ids) for group in groups for sample in group)
        base = sum(group.cost.base_passes for group in groups)
        aligned = sum(group.cost.aligned_passes for group in groups)
        print(router, f"{base / tokens:.2f}", f"{aligned / tokens:.2f}", sep="\t")


if __name__ == "__main__":
    main()
