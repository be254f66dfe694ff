"""Running a plan: whatever happens on the way, the store ends up with the same content."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from baco.bench import run as running
from baco.bench import store as storing
from baco.bench.datasets import load_dataset
from baco.bench.generate import Failed, GroupJob, Made, Pull
from baco.bench.run import BenchWorker, Local, load_pair, prepare
from baco.bench.store import Store
from baco.engine.loop import Engine
from baco.errors import BacoError, InputError
from baco.models import memory
from baco.models.memory import Workload, need_of
from baco.models.sides import Side
from baco.pair import Pair
from baco.prompts import Conversation, conversation_of

from .fake import begin, content, fake_pair, fork, load, plan, result, work

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked here")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """What a run in peace makes."""
    path = tmp_path_factory.mktemp("peace") / "s.sqlite"
    assert work(path, plan()) == []
    found = content(path)
    assert len(found) == 6 * 8
    return found


def test_samples_are_those_that_generate_makes(undisturbed: list[tuple[Any, ...]]) -> None:
    pair = fake_pair()
    texts = {(cell, record): [s["text"] for s in samples] for cell, record, samples in undisturbed}
    found = iter(texts.values())
    prompts = [samples[0]["prompt"] for _, _, samples in undisturbed[:8]]
    for settings in (
        {"method": "base", "temperature": 0.7},
        {"method": "base"},
        {"method": "aligned"},
        {"method": "aligned", "temperature": 1.5},
        {"router": "p-punc@0.1"},
        {"router": "p-punc@0.3"},
    ):
        for group in pair.generate(prompts, 3, max_new_tokens=24, **settings):
            assert next(found) == [sample.text for sample in group]


@pytest.mark.parametrize("option", ["foo", "name"])
def test_options_that_the_engine_does_not_have_are_refused(option: str) -> None:
    with pytest.raises(InputError, match=f"unknown option of the engine baco '{option}'") as error:
        load_pair("tiny", plan(run={"engine_options": {option: 1}}))
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)  # as actors raise it
    load_pair("tiny", plan(run={"engine_options": {"attn_implementation": "sdpa"}}))


def die(path: Path, statements: int) -> None:
    """Runs the plan; dies by `kill -9` as soon as it has begun so many statements of SQL."""
    left = statements

    def count(_: str) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    class Doomed(Store):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._db.set_trace_callback(count)

    running.Store = Doomed  # type: ignore[misc]  # this process ends soon
    BenchWorker(plan(), path, load).run()


def test_killed_at_twenty_moments(
    tmp_path: Path, undisturbed: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "FLUSH_SAMPLES", 1)
    path = tmp_path / "s.sqlite"
    begin(path, plan())
    counted = []
    rng = random.Random(0)
    kills = 0
    while kills < 20:
        # A run is about a thousand statements; what waits in between has changed nothing yet.
        end = result(fork(partial(die, path, rng.randint(1, 200))))
        if end == 0:  # it was done before it was killed: once more from the start
            assert content(path) == undisturbed
            path = tmp_path / f"{kills}.sqlite"
            begin(path, plan())
            continue
        assert end == -signal.SIGKILL
        kills += 1
        with Store(path) as store:
            counted.append(sum(store.counts().values()))
    assert len(set(counted)) > 5  # some of them were killed while they wrote
    assert BenchWorker(plan(), path, load).run() == []
    assert content(path) == undisturbed


def test_two_processes_share_the_work(
    tmp_path: Path, undisturbed: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "POLL_SECONDS", 0.05)
    path = tmp_path / "s.sqlite"
    begin(path, plan())
    both = multiprocessing.get_context("fork").Barrier(2)

    class Patient(Local):
        """Makes nothing before the other process has claimed something too."""

        waited = False

        def make(self, pull: Pull) -> Iterator[Made | Failed]:
            def pull_and_wait(rows: int) -> list[GroupJob]:
                jobs = pull(rows)
                if not self.waited:
                    self.waited = True
                    both.wait(300)
                return jobs

            return super().make(pull_and_wait)

    def take_part() -> None:
        BenchWorker(plan(), path, lambda name, wanted: Patient(fake_pair(), wanted)).run()

    children = [fork(take_part) for _ in range(2)]
    assert [result(child) for child in children] == [0, 0]
    assert content(path) == undisturbed
    with Store(path) as store:
        spans = store.spans()
        made = Counter(span.owner for span in spans)
        assert sum(span.samples for span in spans) == 6 * 8 * 3  # none was made twice
        assert len(made) == 2
        assert store.owners() == []


def test_a_dead_machines_claims_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    clock = SimpleNamespace(time=lambda: now, monotonic=lambda: now, sleep=sleep)
    for module in (running, storing):
        monkeypatch.setattr(module, "time", clock)
    path = tmp_path / "s.sqlite"
    begin(path, plan())
    with Store(path) as store:
        cell = store.cells()[0]
        groups = [(cell.key, record.id) for record in store.records(cell)]
        store.claim(groups, "elsewhere:1:x", 2.5, [])
    assert work(path, plan()) == []
    assert now > 2.5
    assert len(content(path)) == 6 * 8


def test_a_changed_plan_makes_new_cells_only(
    tmp_path: Path, undisturbed: list[tuple[Any, ...]]
) -> None:
    path = tmp_path / "s.sqlite"
    work(path, plan())
    methods = [m.model_dump() for m in plan().methods]
    methods[2]["controls"] = [0.3, 0.5]
    del methods[0]
    work(path, plan(methods=methods))
    with Store(path) as store:
        assert [span.samples for span in store.spans()] == [6 * 8 * 3, 8 * 3]
        assert [cell.title for cell in store.cells()] == [
            "aligned@1",
            "aligned@1.5",
            "baco p-punc@0.3",
            "baco p-punc@0.5",
        ]
    work(path, plan(n=4))  # a larger group begins with the smaller one
    with Store(path) as store:
        assert store.spans()[-1].samples == 6 * 8
    before = {(cell, record): samples for cell, record, samples in undisturbed}
    for cell, record, samples in content(path):
        assert samples[:3] == before[cell, record]
    work(path, plan())
    assert content(path) == undisturbed
    work(path, plan(seed=1))
    assert not {cell for cell, _, _ in content(path)} & {cell for cell, _, _ in undisturbed}


def test_a_failing_group_does_not_stop_the_rest(
    tmp_path: Path, undisturbed: list[tuple[Any, ...]]
) -> None:
    path = tmp_path / "s.sqlite"
    begin(path, plan())
    long = undisturbed[3][2][0]["prompt"]

    def narrow(side: Side) -> Side:
        def encode(prompt: Conversation) -> Sequence[int]:
            if prompt[-1].content == long:
                raise InputError("the prompt has 90 tokens, the context window 64")
            return side.encode(prompt)

        return replace(side, encode=encode)

    pair = Pair.from_sides("fake", *map(narrow, fake_pair().sides))
    failures = BenchWorker(plan(), path, lambda name, wanted: Local(pair, wanted)).run()
    assert [failure.record for failure in failures] == [undisturbed[3][1]] * 6
    assert "the context window 64" in failures[0].message
    assert content(path) == [group for group in undisturbed if group[1] != undisturbed[3][1]]
    with Store(path) as store:
        assert len(store.failures()) == 6
    assert work(path, plan()) == []  # with room for it, it is made next time
    assert content(path) == undisturbed
    with Store(path) as store:
        assert store.failures() == {}


def test_a_failing_engine_does_not_stop_the_rest(
    tmp_path: Path, undisturbed: list[tuple[Any, ...]]
) -> None:
    path = tmp_path / "s.sqlite"
    begin(path, plan())
    pair = fake_pair()
    script = pair.base.script
    poison = undisturbed[3][2][0]["prompt"]
    ids = tuple(pair.sides[0].encode(conversation_of(poison)))

    def failing(seen: tuple[int, ...]) -> Any:
        if seen[: len(ids)] == ids:
            raise ValueError("the moon is full")
        return script(seen)

    pair.base.script = failing
    failures = BenchWorker(plan(), path, lambda name, wanted: Local(pair, wanted)).run()
    assert {failure.message for failure in failures} == {"ValueError: the moon is full"}
    assert {failure.record for failure in failures} == {undisturbed[3][1]}
    found = {(cell, record): samples for cell, record, samples in content(path)}
    expected = {(cell, record): samples for cell, record, samples in undisturbed}
    assert found == {key: expected[key] for key in found}
    assert len(found) == 6 * 8 - len(failures)


def test_memory_bounds_the_rows_of_all_cells(
    random_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.sqlite"
    wanted = plan(
        pairs=["random"],
        n=4,
        datasets=[{"dataset": "tiny", "limit": 1}],
        methods=[{"method": "baco", "router": "p-punc", "controls": [0.1, 0.3, 0.5]}],
    )
    prepare(wanted, path, lambda name: random_pair.revision)
    prompt = load_dataset(wanted.datasets[0]).records[0].prompt
    lengths = tuple(len(ids) for ids in random_pair.prompt_ids(prompt))
    need = need_of((random_pair.base, random_pair.aligned), Workload([lengths], 12, 24))
    assert need is not None
    room = int(need.at(2, weights=False)[torch.device("cpu")] / memory._SPARE) + 1
    monkeypatch.setattr(memory, "available_memory", lambda _: room)
    seen: list[int] = []
    step = Engine.step

    def watched(self: Engine) -> Any:
        events = step(self)
        seen.append(len(self._rows))
        return events

    monkeypatch.setattr(Engine, "step", watched)
    assert BenchWorker(wanted, path, lambda name, wanted: Local(random_pair, wanted)).run() == []
    assert 1 <= max(seen) <= 2
    with Store(path) as store:
        assert sum(store.counts().values()) == 3 * 4


def test_a_full_disk_ends_the_run_and_keeps_what_is_there(
    tmp_path: Path, undisturbed: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "FLUSH_SAMPLES", 8)
    path = tmp_path / "s.sqlite"
    begin(path, plan())

    class Small(Store):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            pages = int(self._db.execute("PRAGMA page_count").fetchone()[0])
            self._db.execute(f"PRAGMA max_page_count={pages + 6}")

    with monkeypatch.context() as patch:
        patch.setattr(running, "Store", Small)
        with pytest.raises(BacoError, match=r"cannot write the store .* full"):
            BenchWorker(plan(), path, load).run()
    with Store(path) as store:
        assert 0 < sum(store.counts().values()) < 6 * 8 * 3
    assert work(path, plan()) == []
    assert content(path) == undisturbed
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
