"""What a forward pass costs by its rows and tokens per row, on the bundled pair with ballast.

Run: ``python -m benchmarks.widths``. A pass that checks guesses is wider than one that does not, so
this says what look-ahead can win on a machine. The second table is what `baco.engine.costs` holds
as `SLOPES`. In float32 the first also shows torch's own linear layers, beside ours
(`baco.models.linear`).
"""

from __future__ import annotations

import time

import torch

from baco.engine.costs import KINDS
from baco.models.linear import OneDNNLinear
from benchmarks.ballast import heavy_pair

ROWS = sorted({*KINDS, 10})  # groups of ten are what the other figures are about
TOKENS = (1, 2, 4)
TIMES = 15


@torch.inference_mode()
def milliseconds(model: torch.nn.Module, rows: int) -> list[float]:
    """The fastest of passes of `TOKENS` tokens per row, which take turns."""
    taken: dict[int, list[float]] = {tokens: [] for tokens in TOKENS}
    for _ in range(TIMES):
        for tokens, times in taken.items():
            ids = torch.full((rows, tokens), 7)
            start = time.perf_counter()
            model(input_ids=ids, use_cache=False)
            times.append(1e3 * (time.perf_counter() - start))
    return [min(times) for times in taken.values()]


def measure(name: str, model: torch.nn.Module) -> tuple[str, list[list[float]]]:
    print(f"measuring {name}", flush=True)
    return name, [milliseconds(model, rows) for rows in ROWS]


def main() -> None:
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        model = heavy_pair("tiny", 32768, dtype).aligned.model
        found.append(measure(str(dtype).removeprefix("torch."), model))
        if dtype == torch.float32:
            for module in model.modules():
                if isinstance(module, OneDNNLinear):
                    module.__class__ = torch.nn.Linear
            found.append(measure("float32, torch's own linear layers", model))
    print("milliseconds a pass, rows x tokens")
    print("dtype", *(f"{rows} x {tokens}" for rows in ROWS for tokens in TOKENS), sep=" | ")
    for name, by_rows in found:
        print(name, *(f"{ms:.1f}" for row in by_rows for ms in row), sep=" | ")
    print("\nby what share of a pass each of three further tokens per row adds to it")
    print("dtype", *(f"{rows} rows" for rows in ROWS), sep=" | ")
    for name, by_rows in found:
        print(name, *(f"{(four / one - 1) / 3:.2f}" for one, _, four in by_rows), sep=" | ")


if __name__ == "__main__":
    main()
