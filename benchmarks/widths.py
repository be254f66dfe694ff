"""What a forward pass costs by its rows and tokens, on the bundled pair with ballast.

Run: ``python -m benchmarks.widths``. It says what look-ahead can win on a machine: a pass that
verifies guesses is wider than one that does not.
"""

from __future__ import annotations

import statistics
import time

import torch

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


def main() -> None:
    print("dtype", *(f"{rows} x {tokens}" for rows, tokens in SHAPES), sep="\t")
    for dtype in (torch.float32, torch.bfloat16):
        model = heavy_pair("tiny", 32768, dtype).aligned.model
        cost = [milliseconds(model, *shape) for shape in SHAPES]
        print(str(dtype)[6:], *(f"{c:.1f} ms" for c in cost), sep="\t")


if __name__ == "__main__":
    main()
