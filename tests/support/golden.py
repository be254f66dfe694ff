"""Golden traces: what the oracle gives for each router on the bundled pair.

Make them anew (after new weights only): ``PYTHONPATH=tests python -m support.golden``
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import baco
from baco.engine import Request, Warp, reference
from baco.engine.noise import row_key
from baco.pair import Pair
from baco.prompts import conversation_of
from baco.routers import CASCADES, ROUTERS, Router, parse

FILE = Path(__file__).parents[1] / "routers" / "golden.json"
PROMPTS = (
    "Suggest a summer trip destination.",
    "Tell me a story in three sentences about a girl and her dog.",
)
SPECS = [
    *(name for name in sorted({*ROUTERS, *CASCADES}) if name != "judge"),
    "rand@0.7", "p@0.6", "p-punc@0.6", "h@1", "punc>p-a@0.5", "p@linear:0.8..0.1/20",
    "p@sentence:0.6,0.2/1", "p-ahead-sentence@0.7", "learned.json@0.3", "punc>learned.json@0.6",
]  # fmt: skip
WARPS = {"default": Warp(), "greedy": Warp(temperature=0)}


@cache
def tiny() -> Pair:
    """The bundled pair in double precision, where equality is exact."""
    return baco.load("tiny", dtype="float64")


def router(spec: str) -> Router:
    """The router of a spec; `learned.json` lies beside the golden file."""
    return parse(spec.replace("learned.json", str(FILE.with_name("learned.json"))))


def requests(spec: str, warp: str, count: int = 1, limit: int = 40) -> list[Request]:
    out = []
    for prompt in PROMPTS:
        base, aligned = tiny().prompt_ids(conversation_of(prompt))
        out += [
            Request(base, aligned, router(spec), row_key(0, prompt, i), WARPS[warp],
                    max_new_tokens=limit)
            for i in range(count)
        ]  # fmt: skip
    return out


def traces(spec: str, warp: str) -> list[dict[str, Any]]:
    """The oracle's traces of one router."""
    return traced(tiny(), requests(spec, warp))


def traced(pair: Pair, asked: Sequence[Request]) -> list[dict[str, Any]]:
    """The oracle's traces of requests, as they are recorded."""
    found = [reference.decode(pair.base, pair.aligned, request) for request in asked]
    return [{"ids": t.tokens, "sources": t.sources, "finish": t.finish} for t in found]


def record(file: Path, golden: Mapping[str, list[dict[str, Any]]]) -> None:
    """Writes traces by their keys, a line for each."""
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items())
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    record(FILE, {f"{spec} {warp}": traces(spec, warp) for spec in SPECS for warp in WARPS})
