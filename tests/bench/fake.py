"""A scripted pair that decodes at once, a plan for it, and processes that can be killed."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from baco.bench import run as running
from baco.bench.plan import Plan
from baco.bench.run import BenchWorker, Local, prepare
from baco.bench.store import Store
from baco.models.sides import Side
from baco.pair import Pair
from baco.partners.fake import FakePartner, fake_vocabulary
from baco.prompts import Conversation

TOKENS = [" red", " blue", " a", " the", " sea", ".", ",", " ski", "ing", "<end>"]


def fake_pair(name: str = "fake", window: int = 400) -> Pair:
    """Two scripts over ten tokens, in double precision, that depend on the last two tokens."""
    vocabulary = fake_vocabulary(TOKENS, function_words=[" a", " the"])

    def script(salt: int) -> Callable[[tuple[int, ...]], list[float]]:
        def probabilities(ids: tuple[int, ...]) -> list[float]:
            state = (ids[-1] * 7 + ids[-2] * 3 + salt) % 11
            return [1.0 + (state * (i + 3) + salt * i) % (5 + salt) for i in range(len(TOKENS))]

        return probabilities

    def side(label: str, salt: int) -> Side:
        return Side(
            label,
            FakePartner(vocabulary, script(salt), context_window=window),
            encode,
            lambda text: [len(text) % 9],
            [token.encode() for token in TOKENS],
            revision=f"{label}{salt}",
        )

    def encode(prompt: Conversation) -> list[int]:
        return [ord(c) % 9 for c in prompt[-1].content]

    return Pair.from_sides(name, side("base", 2), side("aligned", 4))


@cache
def _pair() -> Pair:
    return fake_pair()


def load(name: str, wanted: Plan) -> Local:
    """Stands for `baco.bench.run.load_local`."""
    return Local(_pair(), wanted)


def plan(**changes: Any) -> Plan:
    """A plan of three curves on the fake pair; it is not checked, as no such pair is known."""
    values: dict[str, Any] = {
        "name": "fake",
        "pairs": ["fake"],
        "n": 3,
        "datasets": [{"dataset": "tiny", "limit": 8}],
        "sampling": {"max_new_tokens": 24},
        "run": {"max_rows": 16},
        "methods": [
            {"method": "base", "controls": [0.7, 1.0]},
            {"method": "aligned", "controls": [1.0, 1.5]},
            {"method": "baco", "router": "p-punc", "controls": [0.1, 0.3]},
        ],
        "metrics": {"quality": ["reward@tiny"], "diversity": ["dist_1", "nb_distinct@tiny"]},
    }
    return Plan(**{**values, **changes})


def begin(path: Path, wanted: Plan) -> None:
    """Tells a store of a plan."""
    prepare(wanted, path, lambda name: _pair().revision)


def work(path: Path, wanted: Plan) -> list[running.Failure]:
    """Runs a plan in this process."""
    begin(path, wanted)
    return BenchWorker(wanted, path, load).run()


def content(path: Path) -> list[tuple[Any, ...]]:
    """All that the store holds of samples, but for what they cost."""
    with Store(path) as store:
        return [
            (cell.key, record.id, [{**sample, "cost": None} for sample in samples])
            for cell in store.cells()
            for record, samples in store.groups(cell)
        ]


def fork(action: Callable[[], object]) -> int:
    """Runs an action in a process of its own; returns the process's id."""
    child = os.fork()
    if child:
        return child
    try:
        action()
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)
    os._exit(0)


def result(child: int) -> int:
    """Waits for a process; returns its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
