"""Decodes in vLLM on two tensor-parallel ranks; prints how many answers equal the oracle's.

``drafts``: each side checks the other's guesses.
"""

from __future__ import annotations

import json
import sys

import baco
from baco.engine import Warp
from support.oracle import DRAFTING, LEARNED, compare, decode, requests


def main() -> None:
    pair = baco.load(
        "tiny", engine="vllm", enforce_eager=True, tensor_parallel_size=2, block_size=32,
        kv_cache_memory_bytes=64 * 2**20, **(DRAFTING if "drafts" in sys.argv else {}),
    )  # fmt: skip
    asked = [
        request
        for spec in (
            "p-punc@0.4",
            "rand@0.5",
            "h@1",
            "p@sentence:1,0/1",
            "p-ahead3@0.6",
            f"{LEARNED}@0.6",
        )
        for warp in (Warp(), Warp(temperature=0))
        for request in requests(spec, warp, count=3)
    ]
    tally = compare(asked, decode(pair, asked))
    print(json.dumps([tally.equal, tally.total]))


if __name__ == "__main__":
    main()
