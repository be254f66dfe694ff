"""What a forward pass costs by its rows and tokens, on the bundled pair with ballast.

Run: ``python -m benchmarks.widths``. It says what look-ahead can win on a machine: a pass that
verifies guesses is wider than one that does not. In float32 it also shows what torch's own linear
layers cost, beside ours (`baco.models.linear`).
"""

from __future__ import annotations

import statistics
import time

import torch

from baco.models.linear import OneDNNLinear
from benchmarks.ballast import heavy_pair

SHAPES = ((1, 1), (1, 2), (1, 4), (10, 1), (10, 2))


@torch.inference_mode()
def milliseconds(model: torch.nn.Module, rows: int, tokens: int, times: int = 25) -> float:
    ids = torch.full((rows, tokens), 7)
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        model(input_ids=ids, use_cache=False)
        taken.append(time.perf_counter() - start)
    return 1e3 * statistics.median(taken)


def show(name: str, model: torch.nn.Module) -> None:
    cost = [milliseconds(model, *shape) for shape in SHAPES]
    print(name, *(f"{c:.1f} ms" for c in cost), sep="\t", flush=True)


def main() -> None:
    print("dtype", *(f"{rows} x {tokens}" for rows, tokens in SHAPES), sep="\t")
    show("bfloat16", heavy_pair("tiny", 32768, torch.bfloat16).aligned.model)
    model = heavy_pair("tiny", 32768, torch.float32).aligned.model
    show("float32", model)
    for module in model.modules():
        if isinstance(module, OneDNNLinear):
            module.__class__ = torch.nn.Linear
    show("float32, torch's own", model)


if __name__ == "__main__":
    main()
