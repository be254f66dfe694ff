"""Runs that share an engine make the samples that each makes alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from baco.engine.loop import Stats
from baco.engine.session import EngineFault, Engines, Seat
from baco.group import Sample
from baco.methods.base import Done, Setting, Update
from baco.methods.settings import make_setting
from baco.pair import Pair, tasks_for
from baco.prompts import conversation_of

PROMPTS = [conversation_of(text) for text in ("Name a city.", "What is the capital of France?")]

SETTINGS = [
    make_setting(router="p-punc@0.3", max_new_tokens=24),
    make_setting(router="rand@0.5", temperature=1.3, max_new_tokens=40),
    make_setting(method="aligned", max_new_tokens=30, stop=["e"]),
    make_setting(method="base", top_p=0.5, max_new_tokens=24, restart_shorter_than=4),
]


def turns(runs: list[Iterator[Update]]) -> Iterator[tuple[int, Update]]:
    """Gives every run its turn, one cycle at a time."""
    open_ = dict(enumerate(runs))
    while open_:
        for number, run in list(open_.items()):
            for update in run:
                yield number, update
                if isinstance(update, Stats):
                    break
            else:
                del open_[number]


@pytest.mark.parametrize("max_rows", [3, 64])
def test_sharing_changes_no_sample(random_pair: Pair, max_rows: int) -> None:
    tasks = tasks_for(PROMPTS, 3)
    engines = Engines()
    shared = [replace(s, max_rows=max_rows, seat=Seat(engines)) for s in SETTINGS]
    found: dict[tuple[int, int], Sample] = {}
    for number, update in turns([random_pair.run(tasks, setting) for setting in shared]):
        if isinstance(update, Done):
            assert (number, update.task) not in found
            found[number, update.task] = update.sample
    for number, setting in enumerate(SETTINGS):
        alone = {u.task: u.sample for u in random_pair.run(tasks, setting) if isinstance(u, Done)}
        assert alone == {task: s for (n, task), s in found.items() if n == number}
    assert len(found) == len(SETTINGS) * len(tasks)


def test_settings_of_one_pair_share_one_batch(random_pair: Pair) -> None:
    engines = Engines()
    tasks = tasks_for(PROMPTS[:1], 2)

    def run(gamma: float) -> Iterator[Update]:
        setting: Setting = make_setting(router="p", gamma=gamma, max_new_tokens=16)
        return random_pair.run(tasks, replace(setting, seat=Seat(engines)))

    list(turns([run(gamma) for gamma in (0.1, 0.2, 0.3, 0.4)]))
    (hub,) = engines._hubs.values()
    together = hub.engine.stats
    assert together.tokens <= 8 * 16
    assert not hub.owners
    alone = [u for u in run(0.1) if isinstance(u, Stats)][-1]
    # The same engine went on; four runs took fewer passes than four times what one takes.
    assert together.base_passes < 4 * (alone.base_passes - together.base_passes)


def test_a_run_can_leave(random_pair: Pair) -> None:
    engines = Engines()
    tasks = tasks_for(PROMPTS, 2)
    seats = [Seat(engines), Seat(engines)]
    setting = make_setting(router="p@0.3", max_new_tokens=24)
    runs = [random_pair.run(tasks, replace(setting, seat=seat)) for seat in seats]
    next(runs[0])
    seats[0].leave()
    assert not [u for u in runs[0] if isinstance(u, Done)]
    alone = {u.task: u.sample for u in random_pair.run(tasks, setting) if isinstance(u, Done)}
    assert {u.task: u.sample for u in runs[1] if isinstance(u, Done)} == alone


def test_a_failing_engine_is_told_from_a_failing_run(
    random_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = Engines()
    setting = replace(make_setting(router="p@0.3", max_new_tokens=24), seat=Seat(engines))
    run = random_pair.run(tasks_for(PROMPTS, 1), setting)
    next(run)
    (hub,) = engines._hubs.values()

    def fail() -> None:
        raise ValueError("no memory for that")

    monkeypatch.setattr(hub.engine, "step", fail)
    with pytest.raises(EngineFault, match="no memory for that"):
        list(run)
