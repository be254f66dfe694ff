"""Does a diversity give its base share on prompts that calibration has not seen?

`python -m benchmarks.calibration` asks the bundled pair its held-out prompts at each diversity and
router, with the curves that come with BaCo, and compares the base share with what was asked for.
"""

from __future__ import annotations

import argparse
from typing import Any

import baco
from baco.calibration import resolve
from baco.tiny.world import prompts
from benchmarks.record import keep

ROUTERS = ("p", "p-punc", "h-punc", "rand")
DIVERSITIES = (0.1, 0.25, 0.5, 0.75)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=None, help="the first so many only")
    parser.add_argument("--samples", type=int, default=4)
    args = parser.parse_args()
    pair = baco.load("tiny")
    asked = [prompt.text for prompt in prompts("heldout")][: args.prompts]
    rows: list[dict[str, Any]] = []
    for router in ROUTERS:
        for diversity in DIVERSITIES:
            bound, info = resolve(pair, router, diversity)
            groups = pair.generate(
                asked, n=args.samples, router=bound, max_new_tokens=128, seed=2026
            )
            share = sum(group.base_share for group in groups) / len(groups)
            off = share - (diversity if info.expected is None else info.expected)
            rows.append(
                {
                    "router": router,
                    "diversity": diversity,
                    "gamma": info.gamma,
                    "clamped": info.clamped,
                    "base_share": round(share, 4),
                    "off": round(off, 4),
                }
            )
            print(
                f"{router:8s} d {diversity:4.2f}  gamma {info.gamma:8.4f}  "
                f"base share {share:.3f}  off by {off:+.3f}",
                flush=True,
            )
    worst = max(abs(row["off"]) for row in rows)
    print(f"largest difference {worst:.3f} (target: at most 0.07)")
    keep(
        "calibration",
        {"prompts": len(asked), "samples": args.samples, "rows": rows, "worst": worst},
    )


if __name__ == "__main__":
    main()
