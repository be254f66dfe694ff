"""What a model alone costs a token beside its own forward pass, on the bundled pair.

Run: ``OMP_NUM_THREADS=1 python -m benchmarks.alone``; to compare with another commit, once more
with PYTHONPATH set to the folder ``src`` of its checkout. Operations of torch and calls of Python
are counted, which needs no clock; processor time is the least of some runs.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

import baco

PROMPTS = (
    "My comic has a wise wizard without a name. Suggest one.",
    "Name a colour for my door.",
    "Suggest a name for a horse.",
)


class Counter(TorchDispatchMode):
    """Counts the operations that torch dispatches."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def least(run: Callable[[], Any], times: int) -> float:
    """Processor time of a call in seconds, the least of some."""
    found = []
    for _ in range(times):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    """Prints one line for each group size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20, metavar="N", help="runs")
    times = parser.parse_args().times
    pair = baco.load("tiny")
    for n in (1, 10):

        def run(n: int = n) -> list[Any]:
            options: dict[str, Any] = {"n": n, "seed": 0, "max_new_tokens": 48, "method": "aligned"}
            return [pair.generate(prompt, **options) for prompt in PROMPTS]

        tokens = sum(len(sample.token_ids) for group in run() for sample in group)
        with Counter() as counter:
            run()
        profile = cProfile.Profile()
        profile.runcall(run)
        calls = pstats.Stats(profile).total_calls  # type: ignore[attr-defined]
        print(
            f"n = {n}: {counter.count / tokens:.0f} operations, {calls / tokens:.0f} calls and "
            f"{1e3 * least(run, times) / tokens:.3f} ms a token"
        )


if __name__ == "__main__":
    main()
