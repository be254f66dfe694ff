"""Routers that need more than one step's scores are refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from baco.engine.rows import Request
from baco.errors import UnsupportedError
from baco.routers import parse
from baco.vllm.inside.requests import check, of_request

LEARNED = str(Path(__file__).parents[1] / "routers" / "learned.json")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("judge", "asks a judge"),
        ("p-ahead3@0.4", "looks ahead, which is not possible inside vLLM"),
        ("p@sentence:0.5,0.2/1", "counts sentences"),
        (f"punc>{LEARNED}@0.3", "is a file, and vLLM's processes read none"),
    ],
)
def test_refused(spec: str, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        of_request(Request((1,), (2,), parse(spec), 0), "baco")
    with pytest.raises(UnsupportedError, match=message):
        check({"baco_router": spec})
