"""A router that was learned: logistic regression on cheap features of one step, kept as a file.

The file is plain JSON that `baco router train` writes (`baco.routers.training`). Its threshold γ is
the share of routing decisions met in training that would go to the base model, so it moves along
diversity: 0 is the aligned model, 1 always base.

Paper: §6.4 (routers that are learned; the method is ours).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baco.engine.lazy import torch
from baco.engine.router import BOTH, Rule, View
from baco.errors import InputError

if TYPE_CHECKING:
    from baco.engine.router import Router

FORMAT = 1
"""Version of the file."""

SUFFIX = ".json"
"""How a router spec is known to be a file."""

QUANTILES = 101
"""Scores kept of the training's decisions: their quantiles in steps of a hundredth."""


def divergence(view: View) -> torch.Tensor:
    """Jensen-Shannon divergence of P_base and P_aligned in nats: float [n] in [0, ln 2]."""
    p, q = view.base.raw.double().exp(), view.aligned.raw.double().exp()
    mean = ((p + q) / 2).clamp(min=1e-300).log()
    halves = [torch.where(x > 0, x * (x.clamp(min=1e-300).log() - mean), 0).sum(-1) for x in (p, q)]
    return (halves[0] + halves[1]) / 2


FEATURES: Mapping[str, Callable[[View], torch.Tensor]] = {
    "base_top_prob": lambda v: v.base.top_prob,
    "aligned_top_prob": lambda v: v.aligned.top_prob,
    "log_ratio": lambda v: v.base.top_prob.double().log() - v.aligned.top_prob.double().log(),
    "base_entropy": lambda v: v.base.entropy,
    "aligned_entropy": lambda v: v.aligned.entropy,
    "agreement": lambda v: v.base.top_token == v.aligned.top_token,
    "divergence": divergence,
    "position": lambda v: v.context.t.double().log1p(),
    "base_punctuation": lambda v: v.vocabulary.is_punctuation[v.base.top_token],
    "aligned_punctuation": lambda v: v.vocabulary.is_punctuation[v.aligned.top_token],
    "base_function_word": lambda v: v.vocabulary.is_function_word[v.base.top_token],
    "aligned_function_word": lambda v: v.vocabulary.is_function_word[v.aligned.top_token],
}
"""What a learned router may look at, by name; each of a view of n rows, [n]."""


def features(view: View, names: tuple[str, ...]) -> torch.Tensor:
    """Returns features of each row: float64 [n, len(names)]."""
    return torch.stack([FEATURES[name](view).double() for name in names], -1)


@dataclass(frozen=True)
class Learned:
    """What was learned; as a function it is the router's rule.

    Attributes:
        pair: Name of the pair it was trained on.
        revision: That pair's revision.
        features: Names of its features.
        mean: What is subtracted from each.
        scale: What each is divided by then; positive.
        weights: One per feature.
        bias: Added to the weighted sum.
        quantiles: Scores of the training's decisions, ascending: the k-th of K is the score that a
            share k / (K - 1) of them does not exceed.
        default: The γ at which it was trained.
        training: How it was trained, for the reader.
    """

    pair: str
    revision: str
    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    quantiles: tuple[float, ...]
    default: float
    training: tuple[tuple[str, Any], ...] = field(default=(), compare=False)

    def score(self, view: View) -> torch.Tensor:
        """Returns the learned score of each row: float64 [n]; larger means base."""
        x = features(view, self.features)
        mean, scale, weights = (x.new_tensor(c) for c in (self.mean, self.scale, self.weights))
        return ((x - mean) / scale * weights).sum(-1) + self.bias

    def level(self, gamma: torch.Tensor) -> torch.Tensor:
        """Returns the score above which base speaks: float64 [n] for thresholds [n]."""
        known = torch.tensor(self.quantiles, dtype=torch.float64, device=gamma.device)
        place = (1 - gamma) * (len(known) - 1)
        low = place.floor().long().clamp(0, len(known) - 2)
        level = torch.lerp(known[low], known[low + 1], place - low)
        level = torch.where(gamma <= 0, math.inf, level)
        return torch.where(gamma >= 1, -math.inf, level)

    def __call__(self, view: View, gamma: torch.Tensor) -> torch.Tensor:
        """Decides: bool [n], True where base speaks."""
        return self.score(view) > self.level(gamma)

    def rule(self, name: str) -> Rule:
        """Returns it as a rule, under the name that specs give."""
        return Rule(
            name,
            "the learned score is among the share γ that spoke most for base in training",
            self,
            BOTH,
            0,
            1,
            default=self.default,
            source="§6.4",
        )

    def to_json(self) -> str:
        """Returns the file's text."""
        fields = {**asdict(self), "training": dict(self.training)}
        return json.dumps({"format": FORMAT, "router": "learned", **fields}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Learned:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: If it is something else; the message says what.
        """
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.pop("router", None) != "learned":
            raise ValueError("it is no learned router")
        if fields.pop("format", None) != FORMAT:
            raise ValueError("it was written by another version of BaCo")
        missing = set(cls.__dataclass_fields__) - set(fields)
        unknown = set(fields) - set(cls.__dataclass_fields__)
        if missing or unknown:
            raise ValueError(f"the key {min(missing | unknown)!r} is missing or unknown")
        names = fields["features"]
        strange = [name for name in names if name not in FEATURES]
        if strange:
            raise ValueError(f"it uses the unknown feature {strange[0]!r}")
        columns = {key: _numbers(fields[key]) for key in ("mean", "scale", "weights", "quantiles")}
        if (
            not len(names)
            == len(columns["mean"])
            == len(columns["scale"])
            == len(columns["weights"])
        ):
            raise ValueError("its lists differ in length")
        if min(columns["scale"], default=1) <= 0:
            raise ValueError("a scale is not positive")
        levels = columns["quantiles"]
        if len(set(names)) < len(names):
            raise ValueError("a feature is in it twice")
        if len(levels) < 2 or list(levels) != sorted(levels):
            raise ValueError("its quantiles do not ascend")
        bias, default = _numbers([fields["bias"], fields["default"]])
        if not 0 <= default <= 1:
            raise ValueError("its default is not in [0, 1]")
        return cls(
            pair=str(fields["pair"]),
            revision=str(fields["revision"]),
            features=tuple(names),
            **columns,
            bias=bias,
            default=default,
            training=tuple(dict(fields["training"]).items()),
        )


def _numbers(values: list[Any]) -> tuple[float, ...]:
    """Checks a list of finite numbers."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is not a number")
        if not math.isfinite(value):
            raise ValueError("a number is not finite")
    return tuple(float(value) for value in values)


def load(path: str) -> Rule:
    """Loads a learned router.

    Args:
        path: The file; it also is the rule's name.

    Raises:
        InputError: If the file cannot be read or is no learned router.
    """
    try:
        stamp = os.stat(path)
        return _load(path, stamp.st_mtime_ns, stamp.st_size)
    except OSError as error:
        raise InputError(
            f"cannot read the router file {path}: {error.strerror}",
            hint="give the path of a file that baco router train wrote",
        ) from None


@lru_cache(maxsize=64)
def _load(path: str, changed: int, size: int) -> Rule:
    """Reads a file once, until it changes: equal specs give equal rules."""
    return read(path, Path(path).read_bytes())


def read(name: str, content: bytes) -> Rule:
    """Makes a rule of a file's content.

    Args:
        name: What the file is called; also the rule's name.
        content: What it holds.

    Raises:
        InputError: If it is no learned router.
    """
    try:
        return Learned.from_json(content.decode()).rule(name)
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is damaged"
        raise InputError(
            f"the router file {name} cannot be used: {reason}",
            hint="make it again: baco router train",
        ) from None


def strangers(router: Router, revision: str) -> list[Learned]:
    """Lists the learned rules of a router that were trained on another pair than this one."""
    learned = [rule.decide for rule in router.rules if isinstance(rule.decide, Learned)]
    return [rule for rule in learned if rule.revision != revision]
