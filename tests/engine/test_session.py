"""Runs that share an engine make the samples that each makes alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from weakref import WeakSet

import pytest
import torch

from baco.engine import Request
from baco.engine.loop import Engine, Stats
from baco.engine.noise import row_key
from baco.engine.session import TURN, EngineKey, Run, Seat, Session, Turn
from baco.errors import PairError
from baco.group import Sample
from baco.methods.base import Done, Setting, Task, Update, tasks_for
from baco.methods.run import new_session
from baco.methods.settings import make_setting
from baco.pair import Pair
from baco.prompts import conversation_of
from baco.routers import parse
from support.engines import fake_pair

pytestmark = pytest.mark.costs

PROMPTS = [conversation_of(text) for text in ("Name a city.", "What is the capital of France?")]

SETTINGS = [
    make_setting(router="p-punc@0.3", max_new_tokens=24),
    make_setting(router="rand@0.5", temperature=1.3, max_new_tokens=40),
    make_setting(method="aligned", max_new_tokens=30, stop=["e"]),
    make_setting(method="base", top_p=0.5, max_new_tokens=24, restart_shorter_than=4),
]

OTHERS = [
    make_setting(method=name, max_new_tokens=8, n=2)
    for name in ("nudging", "diverse-beam", "in-context", "response-ensemble", "contrastive")
]


def start(
    session: Session[Update], pair: Pair, tasks: Sequence[Task], setting: Setting
) -> Run[Update]:
    return session.start(lambda seat: pair.run(tasks, replace(setting, seat=seat)))


def samples_of(updates: Sequence[Update] | Iterator[Update]) -> dict[int, Sample]:
    return {u.task: u.sample for u in updates if isinstance(u, Done)}


def finish(session: Session[Update]) -> dict[Run[Update], dict[int, Sample]]:
    """Advances all runs to their ends; checks that no sample comes twice."""
    found: dict[Run[Update], dict[int, Sample]] = {}
    while not session.idle:
        for run, news in session.cycle():
            mine = found.setdefault(run, {})
            new = samples_of(news)
            assert not mine.keys() & new.keys()
            mine |= new
    return found


@pytest.mark.parametrize("max_rows", [3, 64])
def test_sharing_changes_no_sample(random_pair: Pair, max_rows: int) -> None:
    tasks = tasks_for(PROMPTS, 3)
    session = new_session(max_rows)
    runs = [start(session, random_pair, tasks, replace(s, max_rows=max_rows)) for s in SETTINGS]
    found = finish(session)
    for run, setting in zip(runs, SETTINGS, strict=True):
        assert found[run] == samples_of(random_pair.run(tasks, setting))
        assert len(found[run]) == len(tasks)


def test_every_method_takes_turns_and_makes_what_it_makes_alone(random_pair: Pair) -> None:
    tasks = tasks_for(PROMPTS, 2)
    session = new_session(64)
    runs = [start(session, random_pair, tasks, setting) for setting in OTHERS]
    found = finish(session)
    for run, setting in zip(runs, OTHERS, strict=True):
        assert run.error is None
        assert found[run] == samples_of(random_pair.run(tasks, setting)), setting.method.name


def test_a_method_with_passes_of_its_own_takes_one_a_cycle(
    random_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside it, a row gets on in every cycle, and all such methods share one pass a cycle."""
    passes = 0
    partner = random_pair.aligned
    new_cache = partner.new_cache

    class Counted:
        def __init__(self) -> None:
            self._cache = new_cache()

        def __getattr__(self, name: str) -> object:
            nonlocal passes
            passes += name in ("open", "feed")
            return getattr(self._cache, name)

    def cycles(beside: list[Setting]) -> int:
        """How many cycles a run takes beside others."""
        nonlocal passes
        session = new_session(64)
        tasks = tasks_for(PROMPTS, 2)
        baco = start(session, random_pair, tasks, make_setting(router="p@0.3", max_new_tokens=20))
        list(session.cycle())  # its engine has its caches now
        count = 1
        with monkeypatch.context() as patch:
            patch.setattr(partner, "new_cache", Counted)
            for setting in beside:
                start(session, random_pair, tasks, setting)
            while not baco.over:
                before, count = passes, count + 1
                list(session.cycle())
                assert passes - before <= 2  # texts that are new and texts that go on are two
        return count

    alone = cycles([])
    assert cycles(OTHERS[:2] * 2) == alone
    assert passes > alone / 2


def test_settings_of_one_pair_share_one_batch(random_pair: Pair) -> None:
    tasks = tasks_for(PROMPTS[:1], 2)
    session = new_session(64)
    settings = [make_setting(router="p", gamma=g, max_new_tokens=16) for g in (0.1, 0.2, 0.3, 0.4)]
    for setting in settings:
        start(session, random_pair, tasks, setting)
    finish(session)
    ((_, together),) = session.stats()
    assert together.tokens <= 8 * 16
    (alone,) = [u for u in random_pair.run(tasks, settings[0]) if isinstance(u, Stats)]
    # Four runs took fewer passes than four times what one takes.
    assert together.base_passes < 4 * alone.base_passes


def test_a_run_can_leave(random_pair: Pair) -> None:
    tasks = tasks_for(PROMPTS, 2)
    session = new_session(64)
    setting = make_setting(router="p@0.3", max_new_tokens=24)
    gone, stays = (start(session, random_pair, tasks, setting) for _ in range(2))
    list(session.cycle())
    session.cancel(gone)
    found = finish(session)
    assert gone not in found
    assert found[stays] == samples_of(random_pair.run(tasks, setting))


class Poison(Exception):
    """What a row can do to an engine."""


def poisoned(monkeypatch: pytest.MonkeyPatch, keys: set[int], at: int, what: Exception) -> None:
    """Makes engines fail when rows with these keys have emitted so many tokens."""
    resolve = Engine._resolve

    def fail(self: Engine, number: int) -> None:
        for i, row in enumerate(self._rows):
            if row.request.key in keys and self._batch.t[i] >= at:
                raise what
        resolve(self, number)

    monkeypatch.setattr(Engine, "_resolve", fail)


@pytest.mark.parametrize("at", [0, 5])
@pytest.mark.parametrize("count", [1, 2])
def test_a_row_that_an_engine_fails_on_ends_its_run_alone(
    random_pair: Pair, monkeypatch: pytest.MonkeyPatch, at: int, count: int
) -> None:
    from baco.engine.noise import row_key
    from baco.prompts import identity

    settings = [make_setting(router="p@0.3", max_new_tokens=20, seed=seed) for seed in range(6)]
    settings[4] = make_setting(method="nudging", max_new_tokens=8, n=1)
    tasks = tasks_for(PROMPTS[:1], 3)
    expected = [samples_of(random_pair.run(tasks, setting)) for setting in settings]
    bad = [1, 3][:count]
    keys = {row_key(seed, identity(PROMPTS[0]), 2) for seed in bad}
    poisoned(monkeypatch, keys, at, Poison("row"))
    session = new_session(64)
    runs = [start(session, random_pair, tasks, setting) for setting in settings]
    found = finish(session)
    for number, run in enumerate(runs):
        if number in bad:
            assert isinstance(run.error, Poison)
        else:
            assert run.error is None
            assert found[run] == expected[number]
            # Also what a row has cost in the engine that failed is known.
            assert all(sample.cost is not None for sample in found[run].values())


def test_a_model_that_is_gone_is_not_asked_row_by_row(
    random_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def gone(self: Engine) -> None:
        nonlocal calls
        calls += 1
        raise PairError("the server does not answer", hint="look")

    monkeypatch.setattr(Engine, "step", gone)
    session = new_session(64)
    setting = make_setting(router="p@0.3", max_new_tokens=4)
    runs = [start(session, random_pair, tasks_for(PROMPTS, 2), setting) for _ in range(3)]
    finish(session)
    assert calls == 1
    assert all(isinstance(run.error, PairError) for run in runs)


def test_an_engine_that_cannot_be_had_again_ends_its_rows(
    random_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new_session(64)
    setting = make_setting(router="p@0.3", max_new_tokens=4)
    run = start(session, random_pair, tasks_for(PROMPTS, 2), setting)
    list(session.cycle())

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no device")

    monkeypatch.setattr(Engine, "__init__", fail)
    monkeypatch.setattr(Engine, "step", fail)
    finish(session)
    assert isinstance(run.error, RuntimeError)


def test_a_run_that_fails_by_itself_fails_alone(random_pair: Pair) -> None:
    tasks = tasks_for(PROMPTS, 2)
    session = new_session(64)
    setting = make_setting(router="p@0.3", max_new_tokens=12)

    def broken(seat: Seat) -> Iterator[Update | Turn]:
        yield from [TURN, TURN]
        raise Poison("its own")

    bad, good = session.start(broken), start(session, random_pair, tasks, setting)
    found = finish(session)
    assert isinstance(bad.error, Poison)
    assert found[good] == samples_of(random_pair.run(tasks, setting))


def test_a_row_goes_on_in_another_engine(random_pair: Pair) -> None:
    """Wherever it is cut off: the same tokens, sources and unit beginnings come after."""
    from baco.engine.request import Begun, Request
    from baco.routers import parse

    base, aligned = random_pair.prompt_ids(PROMPTS[0])
    request = Request(base, aligned, parse("rand@0.5"), key=7, max_new_tokens=24)

    def decode(begun: Begun | None) -> Begun:
        engine = Engine(random_pair.base, random_pair.aligned)
        engine.submit(request, begun)
        events = []
        while not engine.idle:
            events += engine.step()
        return Begun(*([x for e in events for x in e[i]] for i in (1, 2, 3)))

    whole = decode(None)
    assert len(whole.tokens) > 3
    for cut in range(1, len(whole.tokens)):
        rest = decode(Begun(*(column[:cut] for column in whole)))
        assert rest == Begun(*(column[cut:] for column in whole)), cut


def test_memory_bounds_shared_engines(random_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs get no more rows than fit, in one engine and in two; the samples are the same."""
    from baco.models import memory
    from baco.models.memory import Workload, need_of

    tasks = tasks_for(PROMPTS[:1], 4)
    settings = [make_setting(router="p@0.5", max_new_tokens=20, seed=seed) for seed in (0, 1)]
    settings.append(make_setting(method="aligned", max_new_tokens=20))
    expected = [samples_of(random_pair.run(tasks, setting)) for setting in settings]
    lengths = tuple(len(ids) for ids in random_pair.prompt_ids(PROMPTS[0]))
    need = need_of((random_pair.base, random_pair.aligned), Workload([lengths], 8, 20))
    assert need is not None
    room = int(need.at(3, weights=False)[torch.device("cpu")] / memory._SPARE) + 1
    monkeypatch.setattr(memory, "available_memory", lambda _: room)
    most = 0
    step = Engine.step

    def watched(self: Engine) -> object:
        nonlocal most
        events = step(self)
        if random_pair.base is self.sides[1].partner:
            most = max(most, len(self._rows))
        return events

    monkeypatch.setattr(Engine, "step", watched)
    session = new_session(64)
    runs = [start(session, random_pair, tasks, setting) for setting in settings]
    found = finish(session)
    assert 1 <= most <= 3
    assert [found[run] for run in runs] == expected


class Shared(Engine):
    """An engine that partners bring along: all who open it get the same one."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(pair.base, pair.aligned)
        self.opened = 0
        self.hubs: WeakSet[object] = WeakSet()

    def open(self, base: object, **how: object) -> Engine:
        self.opened += 1
        return self


def test_an_engine_that_partners_bring_serves_all_sessions(random_pair: Pair) -> None:
    """Streams that are read by turns, and a session of many runs, step one engine."""
    sides = [copy.copy(side.partner) for side in random_pair.sides]
    pair = Pair.from_sides(
        random_pair.name,
        *(replace(side, partner=p) for side, p in zip(random_pair.sides, sides, strict=True)),
    )
    shared = Shared(random_pair)
    for partner in sides:
        partner.abilities = partner.abilities._replace(brings_engine=True)
        partner.hubs = shared.hubs
        partner.open_engine = shared.open  # type: ignore[method-assign]
    settings = [make_setting(router=r, max_new_tokens=24) for r in ("p@0.3", "rand@0.5", "h@1")]
    tasks = tasks_for(PROMPTS, 2)
    wanted = [samples_of(random_pair.run(tasks, setting)) for setting in settings]

    session = new_session(64)
    inside = start(session, pair, tasks, settings[0])
    found: dict[Run[Update], dict[int, Sample]] = {inside: {}}
    streams = [pair.run(tasks, setting) for setting in settings[1:]]
    made: list[dict[int, Sample]] = [{} for _ in streams]
    left = {0, 1}
    while left or not session.idle:
        for number in tuple(left):
            update = next(streams[number], None)
            if update is None:
                left.discard(number)
            elif isinstance(update, Done):
                made[number][update.task] = update.sample
        for run, news in session.cycle():
            found[run] |= samples_of(news)

    def texts(samples: dict[int, Sample]) -> list[tuple[object, ...]]:
        return [(s.text, s.sources, s.finish_reason) for _, s in sorted(samples.items())]

    assert [texts(each) for each in (found[inside], *made)] == [texts(each) for each in wanted]
    assert shared.opened == 3
    assert shared.idle


# --- owners are served in turn: counted in rows and passes, never in seconds ---


def rows_of(seat: Seat, count: int, at_once: int, log: list[str], name: str) -> Iterator[Turn]:
    """Decodes rows through a shared engine, as `Decoding` does; logs each that is finished."""
    port = seat.port(EngineKey(*FAKES), None)
    left, inside = count, 0
    try:
        while left or inside:
            while left and inside < at_once:
                key = row_key(0, name, left)
                port.submit(Request((1,), (1, 2), parse("rand@0.5"), key, max_new_tokens=6))
                left, inside = left - 1, inside + 1
            yield TURN
            for event in port.step():
                if event.finish:
                    inside -= 1
                    log.append(name)
    finally:
        port.close()


FAKES = fake_pair(end=-9.0)  # no row ends before its limit


@pytest.mark.parametrize("many", [[(1000, 8)], [(1, 8)] * 7 + [(1000, 8)], [(64, 8)] * 10])
def test_one_owners_many_rows_keep_no_other_waiting(many: list[tuple[int, int]]) -> None:
    """n = 1,000 of one client, also behind others of its own, beside n = 1 of another."""
    session: Session[Update] = Session(8)
    log: list[str] = []
    runs = [
        session.start(lambda seat, c=c, a=a: rows_of(seat, c, a, log, "many"), "a")  # type: ignore[misc]
        for c, a in many
    ]
    for _ in range(20):
        list(session.cycle())
    for round_ in range(3):  # time and again
        before = len(log)
        one = session.start(lambda seat: rows_of(seat, 1, 8, log, "one"), f"b{round_}")
        cycles = 0
        while not one.over:
            list(session.cycle())
            cycles += 1
            assert cycles < 200
        # At worst all rows inside are at their start, and end with the next that takes its place.
        assert log[before:].count("many") <= 2 * 8
    for run in runs:
        session.cancel(run)
    assert session.idle


def test_two_owners_share_an_engine_in_equal_parts() -> None:
    session: Session[Update] = Session(8)
    log: list[str] = []
    for _ in range(5):
        session.start(lambda seat: rows_of(seat, 200, 8, log, "five"), "a")
    session.start(lambda seat: rows_of(seat, 200, 8, log, "single"), "b")
    while len(log) < 300:
        list(session.cycle())
    assert 0.4 < log[100:].count("single") / len(log[100:]) < 0.6


def test_passes_of_ones_own_are_made_in_turn_by_owners() -> None:
    session: Session[Update] = Session(8)
    log: list[str] = []

    def passes(name: str, count: int) -> Iterator[Turn]:
        for _ in range(count):
            log.append(name)
            yield TURN

    for _ in range(50):
        session.start(lambda _: passes("many", 40), "a")
    list(session.cycle())
    session.start(lambda _: passes("one", 10), "b")
    while log.count("one") != 10:
        list(session.cycle())
    since = log[log.index("one") :]
    assert since.count("many") <= 11
