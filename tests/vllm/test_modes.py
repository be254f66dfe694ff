"""The same answers however vLLM runs: compiled, preempted, from its prefix cache, on two ranks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from baco.engine import Request, Warp
from baco.pair import Pair
from support import oracle, triton_cpu
from support.oracle import PROMPTS, compare, decode, requests

GREEDY = Warp(temperature=0)
V2 = pytest.mark.skipif(not triton_cpu.ASKED, reason="the runner V1 does not draft")


def mixed(limit: int = 24, count: int = 4) -> list[Request]:
    """A few routers, greedy and sampled, one batch."""
    asked = []
    for spec in ("p-punc@0.4", "rand@0.5", "h@1", "p@sentence:1,0.2/1", "p-ahead9@0.6"):
        asked += requests(spec, Warp(), count=count, limit=limit)
        asked += requests(spec, GREEDY, limit=limit)
    return asked


def test_preempted_requests_go_on_where_they_were(
    load: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.v1.core.sched.scheduler import Scheduler

    preempted = []
    plain = Scheduler._preempt_request

    def counting(self: object, request: object, *args: object, **more: object) -> object:
        preempted.append(len(request.output_token_ids))  # type: ignore[attr-defined]
        return plain(self, request, *args, **more)

    monkeypatch.setattr(Scheduler, "_preempt_request", counting)
    # Room for about eight answers, and two dozen of them at a time.
    pair = load(enforce_eager=True, num_gpu_blocks_override=18, max_model_len=128)
    asked = mixed(limit=60)
    tally = compare(asked, decode(pair, asked))
    in_answers = sum(t > 0 for t in preempted)
    print(f"{len(preempted)} preemptions, {in_answers} of them within answers: {tally}")
    assert in_answers >= 5
    assert tally.equal >= 0.95 * tally.total


def test_a_look_ends_with_the_window(load: Callable[..., Pair]) -> None:
    """Sides that do not lag: as the oracle's, whose partners have a window of the same length."""
    window = 48
    pair = load(enforce_eager=True, max_model_len=window)
    (ask, *_) = requests("p-ahead20@0.9", Warp(temperature=2.5), prompts=PROMPTS[1:2], limit=64)
    room = window - len(ask.base_prompt)
    asked = [
        replace(ask, aligned_prompt=ask.base_prompt, key=ask.key + i, max_new_tokens=room)
        for i in range(12)
    ]
    decoded = decode(pair, [replace(request, max_new_tokens=64) for request in asked])
    with patch.object(oracle.partners()[0], "context_window", window):
        tally = compare(asked, decoded)
    print(tally)
    assert tally.equal >= tally.total - 1
    assert sum(len(tokens) == room for tokens, *_ in decoded) >= 3


def test_compiled(load: Callable[..., Pair]) -> None:
    pair = load()
    asked = mixed()
    tally = compare(asked, decode(pair, asked))
    print(tally)
    assert tally.equal >= 0.95 * tally.total


def test_prefix_cache_and_chunks(eager: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Siblings share blocks; prompts that differ on one side only do not."""
    from vllm.v1.core.kv_cache_manager import KVCacheManager

    hits = []
    plain = KVCacheManager.get_computed_blocks

    def watching(*given: object) -> object:
        found = plain(*given)
        hits.append(found[1])
        return found

    monkeypatch.setattr(KVCacheManager, "get_computed_blocks", watching)
    (ask,) = requests("p-punc@0.5", Warp(), prompts=("Suggest a summer trip destination.",))

    def group(base: int, aligned: int, first: int, turn: int) -> list[Request]:
        made = replace(
            ask,
            base_prompt=(ask.base_prompt * 40)[turn : turn + base],
            aligned_prompt=(ask.aligned_prompt * 40)[-aligned:],
        )
        return [replace(made, key=first + i) for i in range(4)]

    for base, aligned in ((70, 130), (130, 70), (100, 100), (33, 128)):
        asked = group(base, aligned, 0, 0)
        first = decode(eager, asked)
        hits.clear()
        again = decode(eager, group(base, aligned, 0, 0))
        assert again == first
        assert max(hits) >= min(base, aligned) // 32 * 32 - 32
        # The other side's prompt is the same, this one's is not.
        other = group(base, aligned, 0, 1)
        hits.clear()
        decoded = decode(eager, other)
        assert hits[0] == 0
        tally = compare(asked + other, first + decoded)
        assert tally.equal >= tally.total - 1, tally


def read_of_prompts(hits: list[int], base: int, aligned: int) -> list[tuple[int, int]]:
    """How many prompt tokens (base, aligned) each request read, by what came from the cache."""
    stream = max(base, aligned)
    return [
        (base - max(0, hit - (stream - base)), aligned - max(0, hit - (stream - aligned)))
        for hit in hits
    ]


@pytest.mark.parametrize(
    ("base", "aligned", "most"),
    # A question beside its chat prompt; a longer base prompt; alike.
    [(40, 88, (24, 24)), (200, 44, (40, 40)), (88, 88, (24, 24))],
)
def test_siblings_read_what_is_left_of_both_prompts(
    base: int, aligned: int, most: tuple[int, int], load: Callable[..., Pair],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """All whole blocks of 32 that both prompts fill are read once for ten siblings."""
    from vllm.v1.core.kv_cache_manager import KVCacheManager

    pair = load(enforce_eager=True, max_model_len=1024)
    hits = []
    plain = KVCacheManager.get_computed_blocks

    def watching(*given: object) -> object:
        found = plain(*given)
        hits.append(found[1])
        return found

    monkeypatch.setattr(KVCacheManager, "get_computed_blocks", watching)
    (ask,) = requests("p-punc@0.5", Warp(), prompts=("Suggest a summer trip destination.",))
    asked = [
        replace(
            ask,
            base_prompt=(ask.base_prompt * 99)[:base],
            aligned_prompt=(ask.aligned_prompt * 99)[-aligned:],
            key=i,
            max_new_tokens=8,
        )
        for i in range(10)
    ]
    tally = compare(asked, decode(pair, asked))
    first, *rest = read_of_prompts(hits, base, aligned)
    print(f"prompts of {base} and {aligned}: the first sibling reads {first}, others {rest[0]}")
    assert tally.equal >= tally.total - 1
    assert first == (base, aligned)
    assert len(rest) == 9
    assert all(b <= most[0] and a <= most[1] for b, a in rest)


@pytest.mark.parametrize(
    "module",
    ["two_ranks", pytest.param("two_ranks drafts", marks=V2), "experts", "experts mixtral"],
)
def test_in_processes_of_their_own(module: str, clean_environment: dict[str, str]) -> None:
    """Tensor parallel; mixtures of experts."""
    from baco.errors import UnsupportedError
    from baco.vllm.inside.versions import installed

    try:
        installed()
    except UnsupportedError as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *f"support.{module}".split()],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=Path(__file__).parents[1],
        env=clean_environment,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    equal, total = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{module}: {equal} of {total} equal")
    assert equal >= total - 1
