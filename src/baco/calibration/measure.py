"""Measures a curve on prompts: more and more thresholds, until the shares lie close together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from baco.calibration.curve import (
    SMALLEST_STEP,
    Curve,
    Knot,
    ThresholdAxis,
    calibrated_method,
    curve_name,
)
from baco.calibration.prompts import prompts_for, spread
from baco.errors import InputError
from baco.prompts import Conversation, Prompt, conversation_of, identity

if TYPE_CHECKING:
    from baco.group import Sample
    from baco.methods.base import Setting, Task
    from baco.models.sides import Models

_START = 9


@dataclass(frozen=True)
class Effort:
    """How carefully to measure.

    Attributes:
        prompts: Prompts used at most.
        samples: Samples per prompt and threshold.
        max_new_tokens: Limit per sample.
        gap: Measure between two thresholds whose shares differ by more than this.
        thresholds: Thresholds measured at most.
    """

    prompts: int = 64
    samples: int = 4
    max_new_tokens: int = 128
    gap: float = 0.06
    thresholds: int = 33


QUICK = Effort(prompts=16, samples=2, max_new_tokens=64, gap=0.12, thresholds=17)
"""What a server does in the background."""

Make = Callable[[Sequence[tuple[Sequence["Task"], "Setting"]]], Sequence[Sequence["Sample"]]]
"""Makes the samples of some runs, each of (tasks, setting), side by side."""


def measure(
    pair: Models,
    router: str,
    prompts: Iterable[Prompt | Conversation] | None = None,
    *,
    effort: Effort | None = None,
    make: Make | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Curve:
    """Measures the curve of a pair and router, or method.

    Of a router it is the base share. A method without one has none: there it is how far different
    answers to a prompt have come on their way from one end of its control to the other, by the
    share of words that two of them do not have in common.

    Args:
        pair: The pair.
        router: A router's name (a cascade may fix the thresholds of all but its last rule), or a
            method's (`Method.up`).
        prompts: Calibration prompts; by default those of `prompts_for`.
        effort: How carefully.
        make: What makes the samples; by default a session of its own.
        progress: Is told how much is done, in [0, 1].

    Returns:
        The curve.

    Raises:
        InputError: If the router takes no threshold or there are no prompts.
    """
    from baco.engine.warp import Warp

    effort = effort or Effort()
    axis = ThresholdAxis.of(router)
    given: list[Prompt | Conversation] = list(
        prompts_for(pair.name) if prompts is None else prompts
    )
    if not given:
        raise InputError("there are no calibration prompts", hint="give at least one")
    conversations = [
        conversation_of(prompt)  # type: ignore[arg-type]  # it takes checked ones too
        for prompt in spread(given, effort.prompts)
    ]
    kind = _Probe if calibrated_method(router) is None else _Spread
    probe = kind(router, conversations, effort, make or _own_session(pair))
    shares: dict[float, float] = {}
    empty: dict[float, int] = {}
    todo = [i / (_START - 1) for i in range(_START)]
    while todo:
        seen = probe.shares([axis.gamma(x) for x in todo])
        for place, (share, none) in zip(todo, seen, strict=True):
            shares[place], empty[place] = share, none
        progress(min(len(shares) / effort.thresholds, 0.99))
        todo = _between(shares, effort)
    places = sorted(shares)
    monotone = isotonic([shares[x] for x in places])
    progress(1.0)
    sampling = Warp()
    return Curve(
        pair=pair.name,
        revision=pair.revision,
        router=curve_name(router),
        knots=tuple(
            Knot(axis.gamma(x), round(share, 6), round(shares[x], 6), empty[x])
            for x, share in zip(places, monotone, strict=True)
        ),
        prompts=len(conversations),
        samples=effort.samples,
        max_new_tokens=effort.max_new_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        fingerprint=_fingerprint(conversations),
        version=version("baco"),
    )


def _fingerprint(conversations: Sequence[Conversation]) -> str:
    return hashlib.sha256("\n".join(map(identity, conversations)).encode()).hexdigest()[:16]


def _between(shares: dict[float, float], effort: Effort) -> list[float]:
    """Returns the places to measure next: between those whose shares are far apart."""
    places = sorted(shares)
    gaps = [
        (abs(shares[b] - shares[a]), (a + b) / 2)
        for a, b in pairwise(places)
        if b - a > 2 * SMALLEST_STEP and abs(shares[b] - shares[a]) > effort.gap
    ]
    room = max(effort.thresholds - len(shares), 0)
    return [middle for _, middle in sorted(gaps, reverse=True)[:room]]


def isotonic(values: Sequence[float]) -> list[float]:
    """Returns the nearest non-decreasing sequence in the least-squares sense.

    Pools adjacent violators: neighbours in the wrong order are replaced by their mean.
    """
    pools: list[tuple[float, int]] = []
    for value in values:
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, m), (b, n) = pools[-2:]
            pools[-2:] = [((a * m + b * n) / (m + n), m + n)]
    return [value for value, count in pools for _ in range(count)]


class _Probe:
    """Measures base shares at thresholds; noise is shared, so that curves come out smooth."""

    _knob, _measure = "threshold", "base share"

    def __init__(
        self,
        router: str,
        conversations: Sequence[Conversation],
        effort: Effort,
        make: Make,
    ) -> None:
        from baco.methods.base import Task

        self._name = router
        self._effort = effort
        self._make = make
        self._tasks = [
            Task(conversation, index)
            for conversation in conversations
            for index in range(effort.samples)
        ]

    def shares(self, gammas: Sequence[float]) -> Iterator[tuple[float, int]]:
        """Returns what is measured at each threshold, and how many answers are empty.

        Raises:
            InputError: If all answers are empty at a threshold: they tell nothing.
        """
        runs = [(self._tasks, self._setting(g)) for g in gammas]
        for gamma, samples in zip(gammas, self._make(runs), strict=True):
            written = [sample for sample in samples if sample.sources]
            if not written:
                raise InputError(
                    f"all {len(samples)} answers are empty at the {self._knob} {gamma:g}, so there "
                    f"is no {self._measure} to measure",
                    hint="give other prompts, or check the base model",
                )
            yield self._share(gamma, written), len(samples) - len(written)

    def _setting(self, gamma: float) -> Setting:
        from baco.methods.settings import make_setting
        from baco.routers import parse

        router = parse(self._name).with_gamma(gamma)
        return make_setting(router=router, max_new_tokens=self._effort.max_new_tokens)

    def _share(self, gamma: float, written: Sequence[Sample]) -> float:
        """Returns the mean base share."""
        return sum(sample.base_share for sample in written) / len(written)


class _Spread(_Probe):
    """Measures how much answers differ, as a part of the way between the control's two ends.

    Both ends must be among the first controls that are asked for.
    """

    _knob, _measure = "control", "difference"
    _ends: tuple[float, float] | None = None

    def shares(self, gammas: Sequence[float]) -> Iterator[tuple[float, int]]:
        """As `_Probe.shares`."""
        found = list(super().shares(gammas))
        axis = ThresholdAxis.of(self._name)
        if self._ends is None:
            seen = dict(zip(gammas, found, strict=True))
            self._ends = seen[axis.gamma(0)][0], seen[axis.gamma(1)][0]
        low, high = self._ends
        if high <= low:
            raise InputError(
                f"answers of the method {self._name!r} do not differ more at one end of its "
                "control than at the other",
                hint="give other prompts or more of them, or give the control itself",
            )
        for value, empty in found:
            yield min(max((value - low) / (high - low), 0.0), 1.0), empty

    def _setting(self, gamma: float) -> Setting:
        from baco.methods.settings import make_setting

        limit = self._effort.max_new_tokens
        return make_setting(method=self._name, control=gamma, max_new_tokens=limit)

    def _share(self, gamma: float, written: Sequence[Sample]) -> float:
        """Returns the mean share of words that two answers to a prompt do not have in common."""
        groups: dict[str, list[frozenset[str]]] = {}
        for sample in written:
            words = frozenset(sample.text.casefold().split())
            groups.setdefault(identity(sample.conversation), []).append(words)
        apart = [
            1 - len(a & b) / max(len(a | b), 1)
            for group in groups.values()
            for a, b in combinations(group, 2)
        ]
        if not apart:
            raise InputError(
                f"no prompt has two answers at {gamma:g}, so there is nothing to measure",
                hint="ask for at least 2 samples per prompt",
            )
        return sum(apart) / len(apart)


def _own_session(pair: Models) -> Make:
    """Returns a function that makes samples in a session of its own."""

    def make(runs: Sequence[tuple[Sequence[Task], Setting]]) -> list[list[Sample]]:
        from baco.methods.running import make_together

        return make_together(pair, runs, max_rows=128)

    return make


# --- from a quality to a threshold ------------------------------------------------------------


def for_quality(
    points: Path, metric: str, least: float, method: str | None = None
) -> CalibrationTarget:
    """Picks the setting of a bench run that keeps a quality and costs as little of it as needed.

    Args:
        points: A CSV file of settings, as `baco tradeoff` reads it: `method`, `control`, metrics.
        metric: The quality metric's column.
        least: The quality to keep.
        method: Only settings of this method.

    Returns:
        The setting whose quality is nearest above `least`: as quality falls when diversity
        rises, it is the one that goes furthest.

    Raises:
        InputError: If the file cannot be used or no setting reaches the quality.
    """
    import csv

    try:
        with points.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"cannot read {points}: {error.strerror}", hint="check its name") from None
    columns = sorted(rows[0]) if rows else []
    for name in ("method", "control", metric):
        if name not in columns:
            raise InputError(
                f"{points} has no column {name!r}", hint=f"it has: {', '.join(columns) or 'none'}"
            )
    settings = []
    for number, row in enumerate(rows, 2):
        if method is not None and row["method"] != method:
            continue
        try:
            settings.append(CalibrationTarget(row["method"], row["control"], float(row[metric])))
        except ValueError:
            raise InputError(
                f"{points}, line {number}: {metric} is {row[metric]!r}", hint="give a number"
            ) from None
    if not settings:
        known = ", ".join(sorted({row["method"] for row in rows}))
        raise InputError(f"{points} has no method {method!r}", hint=f"it has: {known or 'none'}")
    good = [setting for setting in settings if setting.quality >= least]
    if not good:
        best = max(setting.quality for setting in settings)
        raise InputError(f"no setting reaches {metric} {least:g}", hint=f"the best has {best:g}")
    return min(good, key=lambda setting: setting.quality)


@dataclass(frozen=True)
class CalibrationTarget:
    """A setting that was picked for its quality.

    Attributes:
        method: Its method.
        control: Its control value.
        quality: Its quality.
    """

    method: str
    control: str
    quality: float
