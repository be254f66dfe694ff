"""One control for every router and pair: diversity, the share of words that the base model writes.

A router's threshold means something else for every router and pair. Calibration measures, on
prompts, which share of units the base model begins at each of many thresholds, makes the curve
monotone, and stores it for that revision of the pair. `resolve` reads it the other way round:
from a diversity in [0, 1] to the threshold.

Paper: §4 (controls of each method), §6.4 (moving along the quality-diversity spectrum).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from baco.errors import InputError
from baco.prompts import Conversation, Prompt, conversation_of, identity

if TYPE_CHECKING:
    from baco.engine.request import Request
    from baco.engine.router import Router
    from baco.models.sides import Models

T = TypeVar("T")

FORMAT = 1
"""Version of the curve files."""

_SMALLEST_STEP = 2.0**-12
_START = 9


class UncalibratedError(InputError):
    """A diversity was asked for, and there is no curve for this pair and router."""


@dataclass(frozen=True)
class Knot:
    """One measured point.

    Attributes:
        gamma: The threshold; may be infinite.
        share: The base share, made monotone.
        measured: The base share as it was measured.
    """

    gamma: float
    share: float
    measured: float


@dataclass(frozen=True)
class Curve:
    """The base share of a pair and router as a function of the threshold.

    Attributes:
        pair: The pair's name.
        revision: The pair's revision.
        router: The router's name.
        knots: From least to most base.
        prompts: How many prompts it was measured on.
        samples: Samples per prompt and threshold.
        max_new_tokens: Limit per sample.
        temperature: Sampling temperature.
        top_p: Nucleus.
        fingerprint: Hash of the prompts.
        version: Version of BaCo.
    """

    pair: str
    revision: str
    router: str
    knots: tuple[Knot, ...]
    prompts: int
    samples: int
    max_new_tokens: int
    temperature: float
    top_p: float
    fingerprint: str
    version: str

    @property
    def reach(self) -> tuple[float, float]:
        """The smallest and largest base share that the router reaches."""
        return self.knots[0].share, self.knots[-1].share

    def gamma(self, diversity: float) -> tuple[float, float]:
        """Returns the threshold for a diversity, and the base share to expect there.

        0 and 1 are the ends of the threshold's range. In between, thresholds are interpolated.
        """
        knots = self.knots
        if diversity <= 0 or diversity <= knots[0].share:
            return knots[0].gamma, knots[0].share
        if diversity >= 1 or diversity >= knots[-1].share:
            return knots[-1].gamma, knots[-1].share
        above = bisect_right([knot.share for knot in knots], diversity)
        low, high = knots[above - 1], knots[above]
        if low.share == diversity:
            return low.gamma, low.share
        axis = Axis.of(self.router)
        a, b = axis.place(low.gamma), axis.place(high.gamma)
        part = (diversity - low.share) / (high.share - low.share)
        if b - a <= 2 * _SMALLEST_STEP:
            # The share jumps here; there is nothing between these two thresholds.
            nearest = low if part < 0.5 else high
            return nearest.gamma, nearest.share
        return axis.gamma(a + part * (b - a)), diversity

    def to_json(self) -> str:
        """Returns the curve as a JSON text; infinite thresholds are written as ``"inf"``."""
        fields = asdict(self)
        fields["knots"] = [
            {**knot, "gamma": "inf" if knot["gamma"] == float("inf") else knot["gamma"]}
            for knot in fields["knots"]
        ]
        return json.dumps({"format": FORMAT, **fields}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Curve:
        """Reads what `to_json` wrote.

        Raises:
            InputError: If the text is something else.
        """
        try:
            fields = json.loads(text)
            if fields.pop("format") != FORMAT:
                raise ValueError("format")
            knots = tuple(
                Knot(float(k["gamma"]), float(k["share"]), float(k["measured"]))
                for k in fields.pop("knots")
            )
            if len(knots) < 2:
                raise ValueError("knots")
            return cls(knots=knots, **fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                "a calibration file cannot be read", hint="make it again: baco calibrate"
            ) from error


@dataclass(frozen=True)
class CalibrationInfo:
    """How a diversity was understood.

    Attributes:
        diversity: What was asked for.
        expected: The base share that calibration prompts showed at the threshold; None where no
            curve was needed (the two ends) and none is known.
        gamma: The threshold.
        clamped: Whether the diversity is out of the router's reach.
        reach: Smallest and largest base share, or None if not known.
    """

    diversity: float
    expected: float | None
    gamma: float
    clamped: bool
    reach: tuple[float, float] | None

    @property
    def note(self) -> str:
        """One line for the user if the diversity was clamped, else empty."""
        if not self.clamped or self.reach is None:
            return ""
        low, high = self.reach
        return (
            f"diversity {self.diversity:g} is out of this router's reach "
            f"({low:.2f} to {high:.2f}); using {self.expected:.2f}"
        )


@dataclass(frozen=True)
class Axis:
    """Places of a router's thresholds on [0, 1], so that more is more base.

    Attributes:
        low: Smallest threshold.
        high: Largest; may be infinite.
        up: Whether a larger threshold means more base.
    """

    low: float
    high: float
    up: bool

    @classmethod
    def of(cls, router: str | Router) -> Axis:
        """Returns the axis of a router's control.

        Raises:
            InputError: If the router takes no threshold.
        """
        from baco.routers.learned import Learned

        bound = _bound(router)
        i = bound.control
        rule = None if i is None else bound.rules[i]
        if rule is not None and isinstance(rule.decide, Learned):
            raise InputError(
                f"router {bound.name!r} was learned, so diversity does not control it",
                hint="its threshold is a share of the base model already: give gamma",
            )
        if rule is None or rule.low is None or rule.high is None:
            raise InputError(
                f"router {bound.name!r} takes no threshold, so diversity cannot control it",
                hint="use a router with a threshold, such as p-punc",
            )
        return cls(rule.low, rule.high, rule.up)

    def gamma(self, place: float) -> float:
        """Returns the threshold at a place in [0, 1]."""
        x = place if self.up else 1 - place
        if self.high != float("inf"):
            return self.low + x * (self.high - self.low)
        return self.low + x / (1 - x) if x < 1 else float("inf")

    def place(self, gamma: float) -> float:
        """Returns the place of a threshold."""
        if self.high != float("inf"):
            x = (gamma - self.low) / (self.high - self.low)
        else:
            x = 1.0 if gamma == float("inf") else (gamma - self.low) / (1 + gamma - self.low)
        return x if self.up else 1 - x


def _bound(router: str | Router) -> Router:
    from baco.routers import parse

    return parse(router) if isinstance(router, str) else router


# --- from diversity to a router ---------------------------------------------------------------


def resolve(
    pair: Models, router: str, diversity: float, *, curve: Curve | None = None
) -> tuple[Router, CalibrationInfo]:
    """Makes the router that gives a diversity.

    Args:
        pair: The pair.
        router: A router's name, without a threshold.
        diversity: Wanted base share on calibration prompts, in [0, 1]. 0 is the aligned model and
            1 all the base that the router can reach, under the end rule: these two need no curve.
        curve: The curve to use; looked up if not given.

    Returns:
        The router, and how the diversity was understood: what is out of reach is clamped.

    Raises:
        InputError: If the diversity is not in [0, 1], or the router names or takes no threshold.
        UncalibratedError: If there is no curve for this revision of the pair.
    """
    if not 0 <= diversity <= 1:
        raise InputError(
            f"diversity {diversity:g} is out of range", hint="use 0 (aligned) to 1 (most base)"
        )
    if "@" in router.rpartition(">")[2]:
        raise InputError(
            f"router {router!r} names its threshold and diversity gives another",
            hint="leave out one of the two",
        )
    bound = _bound(router)
    axis = Axis.of(bound)
    curve = curve or find(pair.name, pair.revision, bound.name)
    if curve is None:
        if diversity not in (0, 1):
            raise UncalibratedError(
                f"the pair {pair.name!r} is not calibrated for router {bound.name!r}",
                hint=f"run: baco calibrate --pair {pair.name} --router '{bound.name}'",
            )
        gamma = axis.gamma(diversity)
        return bound.with_gamma(gamma), CalibrationInfo(diversity, None, gamma, False, None)
    gamma, expected = curve.gamma(diversity)
    info = CalibrationInfo(
        diversity, expected, gamma, abs(expected - diversity) > 0.005, curve.reach
    )
    return bound.with_gamma(gamma), info


# --- where curves are kept --------------------------------------------------------------------


def home() -> Path:
    """Returns the folder for what BaCo keeps of this user: `BACO_HOME`, or the usual place."""
    if given := os.environ.get("BACO_HOME"):
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "baco"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "baco"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "baco"


def _slug(text: str) -> str:
    """Returns a file name for any text: readable, and different for different texts."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._") or "_"
    if plain == text and len(plain) <= 80:
        return plain
    return f"{plain[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _relative(pair: str, revision: str, router: str) -> Path:
    return Path(_slug(pair), _slug(revision), f"{_slug(router)}.json")


def _known(revision: str) -> bool:
    """Whether both parts of a pair's revision say something."""
    return all(part not in ("", "unknown") for part in revision.split("+"))


def find(pair: str, revision: str, router: str) -> Curve | None:
    """Looks a curve up: the user's own first, then those that come with BaCo.

    Curves of models whose revision is not known (given as objects) are not kept in files.
    """
    if not _known(revision):
        return None
    own = home() / "calibration" / _relative(pair, revision, router)
    if own.is_file():
        return Curve.from_json(own.read_text(encoding="utf-8"))
    shipped = files("baco").joinpath("data", "calibration", _slug(pair), f"{_slug(router)}.json")
    if shipped.is_file():
        curve = Curve.from_json(shipped.read_text(encoding="utf-8"))
        if curve.revision == revision:
            return curve
    return None


def save(curve: Curve, folder: Path | None = None) -> Path:
    """Writes a curve, all or nothing.

    Args:
        curve: The curve.
        folder: Where; by default the user's own place, from which `find` reads.

    Returns:
        The file.
    """
    if folder is None:
        if not _known(curve.revision):
            raise InputError(
                f"the revision of pair {curve.pair!r} is not known, so its curve cannot be kept",
                hint="load the models from folders or from the Hub",
            )
        path = home() / "calibration" / _relative(curve.pair, curve.revision, curve.router)
    else:
        path = folder / _slug(curve.pair) / f"{_slug(curve.router)}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.write_text(curve.to_json(), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}", hint="set BACO_HOME to a folder of yours"
        ) from error
    return path


# --- measuring --------------------------------------------------------------------------------


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

Decode = Callable[[Sequence["Request"]], Sequence[tuple[Sequence[int], Sequence[bool]]]]
"""Decodes requests; returns (sources, begins) of each row."""


def general_prompts() -> list[str]:
    """Returns the prompts that come with BaCo."""
    text = files("baco").joinpath("data", "calibration", "general.txt").read_text(encoding="utf-8")
    return text.splitlines()


def prompts_for(pair: str) -> list[str]:
    """Returns the default calibration prompts of a pair.

    The bundled pairs know nothing but their own small world, so its calibration prompts are used.
    """
    if pair == "tiny" or pair.startswith("tiny-"):
        from baco.tiny.world import prompts

        return [prompt.text for prompt in prompts("calibration")]
    return general_prompts()


def measure(
    pair: Models,
    router: str,
    prompts: Iterable[Prompt | Conversation] | None = None,
    *,
    effort: Effort | None = None,
    decode: Decode | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Curve:
    """Measures the curve of a pair and router.

    Args:
        pair: The pair.
        router: A router's name (a cascade may fix the thresholds of all but its last rule).
        prompts: Calibration prompts; by default those of `prompts_for`.
        effort: How carefully.
        decode: What decodes the rows; by default an engine of its own.
        progress: Is told how much is done, in [0, 1].

    Returns:
        The curve.

    Raises:
        InputError: If the router takes no threshold or there are no prompts.
    """
    from baco.engine.warp import Warp

    effort = effort or Effort()
    bound = _bound(router)
    axis = Axis.of(bound)
    given: list[Prompt | Conversation] = list(
        prompts_for(pair.name) if prompts is None else prompts
    )
    if not given:
        raise InputError("there are no calibration prompts", hint="give at least one")
    conversations = [
        conversation_of(prompt)  # type: ignore[arg-type]  # it takes checked ones too
        for prompt in spread(given, effort.prompts)
    ]
    decode = decode or _own_engine(pair)
    probe = _Probe(pair, bound, conversations, effort, decode)
    shares: dict[float, float] = {}
    todo = [i / (_START - 1) for i in range(_START)]
    while todo:
        for place, share in zip(todo, probe.shares([axis.gamma(x) for x in todo]), strict=True):
            shares[place] = share
        progress(min(len(shares) / effort.thresholds, 0.99))
        todo = _between(shares, effort)
    places = sorted(shares)
    monotone = isotonic([shares[x] for x in places])
    progress(1.0)
    sampling = Warp()
    return Curve(
        pair=pair.name,
        revision=pair.revision,
        router=bound.name,
        knots=tuple(
            Knot(axis.gamma(x), round(share, 6), round(shares[x], 6))
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


def spread(texts: Sequence[T], count: int) -> Sequence[T]:
    """Picks at most `count` items, evenly over the list."""
    if len(texts) <= count:
        return texts
    return [texts[i * len(texts) // count] for i in range(count)]


def _between(shares: dict[float, float], effort: Effort) -> list[float]:
    """Returns the places to measure next: between those whose shares are far apart."""
    places = sorted(shares)
    gaps = [
        (abs(shares[b] - shares[a]), (a + b) / 2)
        for a, b in pairwise(places)
        if b - a > 2 * _SMALLEST_STEP and abs(shares[b] - shares[a]) > effort.gap
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

    def __init__(
        self,
        pair: Models,
        router: Router,
        conversations: Sequence[Conversation],
        effort: Effort,
        decode: Decode,
    ) -> None:
        from baco.engine.noise import row_key

        self._router = router
        self._effort = effort
        self._decode = decode
        self._turn_rule = "\n" in pair.sides[0].boundary
        self._rows = [
            (pair.prompt_ids(conversation), row_key(0, identity(conversation), index))
            for conversation in conversations
            for index in range(effort.samples)
        ]

    def shares(self, gammas: Sequence[float]) -> Iterator[float]:
        """Returns the mean base share of samples at each threshold."""
        from baco.engine.request import BASE, Request

        requests = [
            Request(
                base_prompt=base,
                aligned_prompt=aligned,
                router=self._router.with_gamma(gamma),
                key=key,
                max_new_tokens=self._effort.max_new_tokens,
                turn_rule=self._turn_rule,
            )
            for gamma in gammas
            for (base, aligned), key in self._rows
        ]
        rows = self._decode(requests)
        for start in range(0, len(rows), len(self._rows)):
            total = 0.0
            for sources, begins in rows[start : start + len(self._rows)]:
                owners = [s for s, first in zip(sources, begins, strict=True) if first]
                total += sum(s == BASE for s in owners) / max(len(owners), 1)
            yield total / len(self._rows)


def _own_engine(pair: Models) -> Decode:
    """Returns a function that decodes with an engine of its own."""

    def decode(requests: Sequence[Request]) -> list[tuple[list[int], list[bool]]]:
        from baco.engine.opening import open_engine

        engine = open_engine(pair.base, pair.aligned, max_rows=128)
        rows: dict[int, tuple[list[int], list[bool]]] = {
            engine.submit(request): ([], []) for request in requests
        }
        while not engine.idle:
            for event in engine.step():
                rows[event.row][0].extend(event.sources)
                rows[event.row][1].extend(event.begins)
        return list(rows.values())

    return decode


# --- from a quality to a threshold ------------------------------------------------------------


def for_quality(points: Path, metric: str, least: float, method: str | None = None) -> Target:
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
            settings.append(Target(row["method"], row["control"], float(row[metric])))
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
class Target:
    """A setting that was picked for its quality.

    Attributes:
        method: Its method.
        control: Its control value.
        quality: Its quality.
    """

    method: str
    control: str
    quality: float


__all__ = [
    "QUICK",
    "CalibrationInfo",
    "Curve",
    "Effort",
    "UncalibratedError",
    "find",
    "measure",
    "resolve",
    "save",
]
