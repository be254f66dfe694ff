"""Golden traces on real weights: what the oracle gives for the pair `real-plain`.

Make them anew (minutes): ``PYTHONPATH=tests python -m support.real``
"""

from __future__ import annotations

from pathlib import Path

import baco
from baco.engine import Request
from baco.engine.noise import row_key
from baco.pair import Pair
from baco.prompts import conversation_of
from support.golden import PROMPTS, WARPS, record, router, traced

FILE = Path(__file__).parents[1] / "models" / "real-plain.json"
KEYS = ("p-punc@0.3 default", "h-punc@2.5 default", "rand@0.5 default", "p@0.4 greedy")


def real_plain() -> Pair:
    """The pair in double precision, where equality is exact."""
    return baco.load("real-plain", dtype="float64", device="cpu")


def requests(pair: Pair, key: str) -> list[Request]:
    """The requests of a key: a router's spec and the name of a warp."""
    spec, warp = key.split(" ")
    return [
        Request(
            *pair.prompt_ids(conversation_of(prompt)), router(spec), row_key(0, prompt, 0),
            WARPS[warp], max_new_tokens=16,
        )
        for prompt in PROMPTS
    ]  # fmt: skip


if __name__ == "__main__":
    plain = real_plain()
    record(FILE, {key: traced(plain, requests(plain, key)) for key in KEYS})
