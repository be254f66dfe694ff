"""Curves from thresholds to base shares: their axes, their files, and reading them backwards."""

from __future__ import annotations

import hashlib
import json
import math
import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from baco.errors import InputError
from baco.models.folders import data_folder, write_whole

if TYPE_CHECKING:
    from baco.engine.router import Router
    from baco.methods.base import Method
    from baco.models.sides import Models

T = TypeVar("T")

FORMAT = 1
"""Version of the curve files."""

SMALLEST_STEP = 2.0**-12
"""Thresholds are told apart down to this part of a router's axis."""


class UncalibratedError(InputError):
    """A diversity was asked for, and there is no curve for this pair and router."""


@dataclass(frozen=True)
class Knot:
    """One measured point.

    Attributes:
        gamma: The threshold, which may be infinite; of a method its control.
        share: The base share, made monotone; of a method its part of the way (`measure`).
        measured: The same as it was measured, over the answers that are not empty.
        empty: How many answers were empty.
    """

    gamma: float
    share: float
    measured: float
    empty: int = 0


@dataclass(frozen=True)
class Curve:
    """The base share of a pair and router as a function of the threshold.

    Attributes:
        pair: The pair's name.
        revision: The pair's revision.
        router: The router's `curve_name`, or a method's name.
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

    @property
    def empty(self) -> int:
        """How many answers were empty, at all thresholds together."""
        return sum(knot.empty for knot in self.knots)

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
        axis = ThresholdAxis.of(self.router)
        a, b = axis.place(low.gamma), axis.place(high.gamma)
        part = (diversity - low.share) / (high.share - low.share)
        if b - a <= 2 * SMALLEST_STEP:
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
                Knot(float(k["gamma"]), float(k["share"]), float(k["measured"]), k.get("empty", 0))
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
            f"diversity {self.diversity:g} is out of reach here "
            f"({low:.2f} to {high:.2f}); using {self.expected:.2f}"
        )


@dataclass(frozen=True)
class ThresholdAxis:
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
    def of(cls, router: str | Router) -> ThresholdAxis:
        """Returns the axis of a router's control, or of a method's.

        Raises:
            InputError: If the router takes no threshold.
        """
        from baco.routers.learned import Learned

        method = calibrated_method(router)
        if method is not None:
            assert method.low is not None
            assert method.high is not None
            return cls(method.low, method.high, bool(method.up))
        bound = bound_to(router)
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
        if math.isinf(rule.low):
            raise InputError(
                f"the threshold of router {bound.name!r} has no bounds, so diversity cannot "
                "control it",
                hint="give gamma; or make it a baco.routers.Rule with low, high and up",
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


def calibrated_method(name: str | Router) -> Method | None:
    """Returns the method of a name whose control is calibrated without a router, if it is one."""
    from baco.methods import METHODS

    if not isinstance(name, str) or name not in METHODS or METHODS[name].up is None:
        return None
    return METHODS[name]


def curve_name(router: str | Router) -> str:
    """Returns by what name the curve of a router or method is kept."""
    method = calibrated_method(router)
    return bound_to(router).curve_name if method is None else method.name


def bound_to(router: str | Router) -> Router:
    """Returns the router of a spec, or the router itself."""
    from baco.routers import parse

    return parse(router) if isinstance(router, str) else router


# --- from diversity to a router ---------------------------------------------------------------


def resolve(
    pair: Models, router: str, diversity: float, *, curve: Curve | None = None
) -> tuple[Router | float, CalibrationInfo]:
    """Makes the router that gives a diversity, or the control of a method.

    Args:
        pair: The pair.
        router: A router's name, without a threshold; or that of a method with a control of its own.
        diversity: Wanted base share on calibration prompts, in [0, 1]. 0 is the aligned model and
            1 all the base that the router can reach, under the end rule: these two need no curve.
        curve: The curve to use; looked up if not given.

    Returns:
        The router or the control, and how the diversity was understood: what is out of reach is
        clamped.

    Raises:
        InputError: If the diversity is not in [0, 1], or the router names or takes no threshold.
        UncalibratedError: If there is no curve for this revision of the pair.
    """
    axis, name = check_diversity(router, diversity), curve_name(router)
    kind = "router" if calibrated_method(router) is None else "method"
    curve = curve or find(pair.name, pair.revision, name)
    if curve is not None:
        gamma, expected = curve.gamma(diversity)
        info = CalibrationInfo(
            diversity, expected, gamma, abs(expected - diversity) > 0.005, curve.reach
        )
    elif diversity in (0, 1):
        gamma = axis.gamma(diversity)
        info = CalibrationInfo(diversity, None, gamma, False, None)
    else:
        raise _uncalibrated(pair.name, name)
    return gamma if kind == "method" else bound_to(router).with_gamma(gamma), info


def check_diversity(router: str, diversity: float) -> ThresholdAxis:
    """Checks what can be seen of a diversity without a pair; arguments as of `resolve`.

    Returns:
        The axis of the router's threshold.

    Raises:
        InputError: If it is not in [0, 1], or the router names or takes no threshold.
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
    return ThresholdAxis.of(router)


def _uncalibrated(pair: str, name: str) -> UncalibratedError:
    kind = "router" if calibrated_method(name) is None else "method"
    return UncalibratedError(
        f"the pair {pair!r} is not calibrated for {kind} {name!r}",
        hint=f"run: baco calibrate --pair {pair} --{kind} '{name}'",
    )


def check_calibrated(pair: str, router: str, diversity: float) -> None:
    """Checks that a pair of which nothing is loaded was ever calibrated, whatever its revision.

    Args:
        pair: Its name.
        router: As of `resolve`.
        diversity: As of `resolve`.

    Raises:
        UncalibratedError: If it never was.
    """
    name = curve_name(router)
    own = (data_folder() / "calibration" / _slug(pair)).glob(f"*/{_slug(name)}.json")
    if diversity not in (0, 1) and not any(own) and not _shipped(pair, name).is_file():
        raise _uncalibrated(pair, name)


# --- where curves are kept --------------------------------------------------------------------


def _slug(text: str) -> str:
    """Returns a file name for any text: readable, and different for different texts."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._") or "_"
    if plain == text and len(plain) <= 80:
        return plain
    return f"{plain[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _relative(pair: str, revision: str, router: str) -> Path:
    return Path(_slug(pair), _slug(revision), f"{_slug(router)}.json")


def _shipped(pair: str, router: str) -> Traversable:
    return files("baco").joinpath("data", "calibration", _slug(pair), f"{_slug(router)}.json")


def _known(revision: str) -> bool:
    """Whether both parts of a pair's revision say something."""
    return all(part not in ("", "unknown") for part in revision.split("+"))


def find(pair: str, revision: str, router: str) -> Curve | None:
    """Looks a curve up: the user's own first, then those that come with BaCo.

    Curves of models whose revision is not known (given as objects) are not kept in files.
    """
    if not _known(revision):
        return None
    own = data_folder() / "calibration" / _relative(pair, revision, router)
    if own.is_file():
        return Curve.from_json(own.read_text(encoding="utf-8"))
    shipped = _shipped(pair, router)
    if shipped.is_file():
        curve = Curve.from_json(shipped.read_text(encoding="utf-8"))
        if curve.revision == revision:
            return curve
    return None


def prior(router: str) -> Callable[[float], float]:
    """Returns a rough curve for pairs that are not calibrated: diversity -> threshold.

    It is the bundled pair's where it comes with BaCo, else the place on the threshold's axis.

    Raises:
        InputError: If the router takes no threshold.
    """
    axis = ThresholdAxis.of(router)
    shipped = _shipped("tiny", router)
    if not shipped.is_file():
        return axis.gamma
    curve = Curve.from_json(shipped.read_text(encoding="utf-8"))
    return lambda diversity: (
        axis.gamma(diversity) if diversity in (0, 1) else curve.gamma(diversity)[0]
    )


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
        path = data_folder() / "calibration" / _relative(curve.pair, curve.revision, curve.router)
    else:
        path = folder / _slug(curve.pair) / f"{_slug(curve.router)}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, curve.to_json())
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}", hint="set BACO_HOME to a folder of yours"
        ) from error
    return path


# --- measuring --------------------------------------------------------------------------------
