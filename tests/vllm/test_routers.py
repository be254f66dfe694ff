"""How routers reach processes of vLLM: by name or by the content of a file; or are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import baco
from baco.engine import Request, Warp
from baco.errors import InputError, UnsupportedError
from baco.routers import parse
from baco.routers.learned import Learned
from baco.vllm.inside.requests import BLOCK, Fact, check, codes, of_request, read, resolved
from support.oracle import LEARNED

CONTENT = Path(LEARNED).read_text()


def test_a_judge_is_refused() -> None:
    for spec in ("judge", "punc>judge"):
        with pytest.raises(UnsupportedError, match="asks a judge"):
            of_request(Request((1,), (2,), parse(spec), 0), "baco")
        with pytest.raises(UnsupportedError, match="asks a judge"):
            check({"baco_router": spec})


counts = st.integers(0, 2047)


@given(st.integers(0, 1), st.booleans(), counts, counts)
def test_facts_survive_single_precision(source: int, begins: bool, aligned: int, base: int) -> None:
    one = [torch.tensor([x], dtype=torch.int64) for x in (source, begins, aligned, base)]
    (sent,) = codes(*one).float().tolist()
    assert Fact.of(int(sent)) == (source, begins, aligned, base)


def test_a_function_of_this_process_is_refused() -> None:
    def mine(view: object) -> torch.Tensor:
        raise AssertionError

    for name in ("mine", "mine.json"):
        with pytest.raises(UnsupportedError, match="is a function of this process"):
            of_request(Request((1,), (2,), baco.router(mine, name=name), 0), "baco")


@pytest.mark.parametrize(
    "spec", ["{}@0.3", "punc>{}@0.3", "{}@0.9>{}@0.1", "p-punc@sentence:1,0/2"]
)
def test_other_processes_make_the_same_router(spec: str, tmp_path: Path) -> None:
    """Also where there is no such file, or another one."""
    file = tmp_path / "mine.json"
    file.write_text(CONTENT)
    router = parse(spec.format(file, file))
    sent = json.loads(json.dumps(of_request(Request((1,), (2,), router, 0), "baco").args()))
    file.unlink()
    assert resolved(sent | {BLOCK: 16}).program.router == router
    file.write_text(replace(Learned.from_json(CONTENT), bias=9.0).to_json())
    assert resolved(sent | {BLOCK: 16}).program.router == router
    if "json" in router.spec:
        other = of_request(Request((1,), (2,), parse(router.spec), 0), "baco")
        assert resolved(other.args() | {BLOCK: 16}).program.router != router


def test_a_client_sends_what_the_file_holds() -> None:
    args = {"baco_router": "mine.json", "baco_gamma": 0.25, "baco_learned": [CONTENT]}
    check(args)
    sent = read(args, (1,), (2,), Warp(), 0, 0).args()
    router = resolved(sent | {BLOCK: 16}).program.router
    assert router.gamma == 0.25
    assert router.rules[0].decide == Learned.from_json(CONTENT)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"baco_router": LEARNED}, "is a file, and files that requests name are not opened"),
        ({"baco_router": f"{LEARNED}>a.json", "baco_learned": [CONTENT]}, "'a.json' is a file"),
        (
            {"baco_router": "p", "baco_learned": [CONTENT]},
            "holds 1 files, and the router 'p' names 0",
        ),
        ({"baco_router": "a.json", "baco_learned": CONTENT}, "must be a list of texts"),
        ({"baco_router": "a.json", "baco_learned": [3]}, "must be a list of texts"),
        (
            {"baco_router": "a.json", "baco_learned": ["{}"]},
            "a.json cannot be used: it is no learned",
        ),
        ({"baco_router": "a.json", "baco_learned": ["\ud800"]}, "cannot be used"),
        ({"baco_router": "a.json", "baco_learned": ["[" * 60_000]}, "it is damaged"),
        ({"baco_router": "a.json", "baco_learned": [CONTENT + " " * 2**16]}, "more than 65536"),
        ({"baco_router": "p", "baco_gamma": [0.1]}, "must be a number or a schedule"),
        ({"baco_method": "base", "baco_learned": [CONTENT]}, "one model alone"),
        ({"baco_key": 2**63}, "must fit into 64 bits"),
        ({"baco_key": 0.5}, "must be an integer"),
        ({"baco_aligned_ids": [True]}, "list of token ids"),
        ({"baco_base_ids": ["a"]}, "list of token ids"),
        ({"baco_warps": 3}, "no list of what it should be"),
        ({"baco_warps": [["a", "b", 0]] * 2}, "no list of what it should be"),
        ({"baco_warps": [[-1, 1, 0]] * 2}, "temperature -1 is out of range"),
        ({"baco_blend": ["mix", 0.5]}, "no list of what it should be"),
        ({"baco_end_rule": "no"}, "true or false"),
    ],
)
def test_mistakes(args: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(args)
