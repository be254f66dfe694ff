"""What a metric is: its name, class, direction, range, theory end, needs and source."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from baco.errors import InputError
from baco.registry import Registry

if TYPE_CHECKING:
    from baco.metrics.groups import Generations

Kind = Literal["lexical", "semantic", "quality", "discourse", "probability"]
Direction = Literal["up", "down"]
Compute = Callable[["Sequence[Generations]", Any, "Metric"], "Sequence[float]"]
"""(groups, `baco.metrics.passes.Passes`, the metric as it was asked for) -> a value per group."""

Item = tuple[str, ...]
"""What a pass is asked about: a text, a pair of texts, a prompt with an answer ..."""

_COUNTED = re.compile(r"(dist|ead|esd|icl_diversity)_([1-9]\d?)\Z")


@dataclass(frozen=True)
class Metric:
    """One metric of a group of outputs.

    Args:
        name: Name as users type it; a variant carries its model after ``@``.
        kind: Class; ``lexical`` and ``semantic`` ones make the diversity spaces.
        direction: ``up`` if higher is better (more diverse), ``down`` if lower is.
        range: True range of a group's value, as text; ``n`` is the number of outputs.
        theory: Theory end of the diversity axis as text; empty if there is none.
        theory_end: Theory end for ``n`` outputs, or None.
        model: What it needs besides the text, as text; empty for nothing.
        source: Where its definition comes from.
        compute: Values of groups, in order; NaN where it is undefined.
        default: Whether it is one of the paper's eleven, or of its two quality metrics; these and
            their variants make the averages over spaces.
        pairwise: Whether it compares outputs, so that one output alone has no value.
        role: Key of its default model in `baco.metrics.models.DEFAULTS`; empty for none.
        stand_ins: What can stand in for the model after ``@``: ``tiny`` for the bundled exact
            judge, ``file`` for annotations in the input, ``judge`` for a chat model, ``words`` for
            words in place of a model's tokens.
        on_request: Whether it is left out of ``all``, since it needs a judge or annotations.
        variant: What follows ``@`` in the name; empty for the default model.
        version: Raised when the values of a metric change, so that stored ones are not reused.
    """

    name: str
    kind: Kind
    direction: Direction
    range: str
    theory: str
    theory_end: Callable[[int], float] | None
    model: str
    source: str
    compute: Compute
    default: bool = False
    pairwise: bool = True
    role: str = ""
    stand_ins: tuple[str, ...] = ()
    on_request: bool = False
    variant: str = ""
    version: int = 1

    @property
    def base_name(self) -> str:
        """The name without its variant."""
        return self.name.partition("@")[0]

    @property
    def title(self) -> str:
        """The name for people, such as ``Distinct-2``; in brackets what stands in for its model."""
        base = self.base_name
        family = _COUNTED.match(base)
        title = f"{TITLES[family[1]]}-{family[2]}" if family else TITLES.get(base, base)
        if not self.variant:
            return title
        model = self.variant.removeprefix("gt-").rpartition("/")[2]
        return f"{title} ({VARIANTS.get(self.variant, model)})"

    @property
    def order(self) -> int:
        """The number in ``dist_k``, ``ead_k``, ``esd_k`` or ``icl_diversity_k``, 1 for others."""
        match = _COUNTED.match(self.base_name)
        return int(match[2]) if match else 1

    @property
    def is_diversity(self) -> bool:
        """Whether it is a diversity metric (the y axis of a space)."""
        return self.kind != "quality"


METRICS: Registry[Metric] = Registry("metric")

TITLES: Mapping[str, str] = {
    "arousal_div": "Arousal diversity",
    "branching": "Branching factor",
    "dist": "Distinct",
    "ead": "EAD",
    "emb_cos": "Embedding distance",
    "esd": "ESD",
    "hivemind": "Hivemind similarity",
    "icl_diversity": "In-context diversity",
    "nb_distinct": "Distinct meanings",
    "nb_utility": "Utility",
    "nli_contradiction": "NLI contradiction",
    "nli_entail": "NLI diversity",
    "nll": "Log-likelihood loss",
    "ppl": "Perplexity",
    "ppl_geo": "Perplexity (geometric)",
    "reward": "Reward",
    "reward_raw": "Raw reward",
    "se_discrete": "Discrete semantic entropy",
    "self_bleu": "Self-BLEU",
    "self_bleu_pairwise": "Self-BLEU (pairwise)",
    "self_rouge_l": "Self-ROUGE-L",
    "semantic_entropy": "Semantic entropy",
    "tp_div": "Turning-point diversity",
    "valid_coverage": "Valid meanings",
    "vendi_emb": "Vendi score (embeddings)",
    "vendi_ngram": "Vendi score (n-grams)",
}
"""What people call each metric, or each family of those with a number; others go by their name."""

VARIANTS = {"tiny": "exact judge", "file": "annotated", "judge": "chat judge", "words": "words"}
"""What stands in for a metric's model, for people."""

STAND_INS = ("tiny", "file", "judge", "words")
"""What may follow ``@`` besides a model."""

GROUPS = ("default", "lexical", "semantic", "quality", "paper", "all")


PACKAGES: dict[str, Callable[[str], Metric]] = {}
"""Other packages' measures by what their names begin with: name -> the metric."""


def resolve(name: str) -> Metric:
    """Finds a metric by name.

    Args:
        name: A registered name, ``dist_k``, ``ead_k``, ``esd_k`` (the bar) or
            ``icl_diversity_k`` (the orders) for any k from 1 to 99, or a measure of the package
            emb-diversity as ``emb-diversity.MEASURE``; each optionally followed by ``@`` and a
            model.

    Returns:
        The metric under the name given.

    Raises:
        UnknownNameError: If there is none, with the close names.
        InputError: If the metric uses no model but one is named.
    """
    base, at, variant = name.strip().partition("@")
    counted = _COUNTED.match(base)
    if base not in METRICS and counted:
        family = counted[1] if counted[1] in METRICS else f"{counted[1]}_1"
        found = dataclasses.replace(METRICS[family], name=base, default=False)
    elif "." in base and base.partition(".")[0] in PACKAGES:
        found = PACKAGES[base.partition(".")[0]](base)
    else:
        found = METRICS[base]
    if not at:
        return found
    if not variant:
        raise InputError(f"the metric {name!r} names no model after '@'")
    if variant in STAND_INS and variant not in found.stand_ins:
        able = sorted(f"{m.name}@{variant}" for m in METRICS.values() if variant in m.stand_ins)
        raise InputError(f"there is no {name!r}", hint=f"there is {', '.join(able)}")
    if variant not in STAND_INS and not found.role:
        raise InputError(
            f"the metric {base!r} takes no model of its own, so '@{variant}' means nothing"
        )
    return dataclasses.replace(found, name=f"{base}@{variant}", variant=variant)


def expand(names: Sequence[str]) -> list[Metric]:
    """Resolves names and names of lists of metrics.

    Args:
        names: Metric names; ``default`` stands for the eleven diversity metrics, ``paper`` for
            these and the two quality metrics, ``lexical``, ``semantic`` and ``quality`` for the
            members of ``paper`` of that class, ``all`` for every one but
            those that need a judge or annotations.

    Returns:
        The metrics in the order asked for, each once.
    """
    found: dict[str, Metric] = {}
    for name in names:
        for metric in _members(name):
            found.setdefault(metric.name, metric)
    if not found:
        raise InputError("no metric is asked for", hint="see `baco metrics list`")
    return list(found.values())


def _members(name: str) -> list[Metric]:
    if name not in GROUPS:
        return [resolve(name)]
    if name == "all":
        return [m for m in METRICS.values() if not m.on_request]
    paper = [m for m in METRICS.values() if m.default]
    if name == "paper":
        return paper
    if name == "default":
        return [m for m in paper if m.is_diversity]
    return [m for m in paper if m.kind == name]


def one(n: int) -> float:
    """Theory end 1, whatever the number of outputs."""
    return 1.0


def zero(n: int) -> float:
    """Theory end 0, whatever the number of outputs."""
    return 0.0


def count(n: int) -> float:
    """Theory end n: every output is of its own kind."""
    return float(n)


def log_count(n: int) -> float:
    """Theory end ln n (nats): n equally likely outputs."""
    return math.log(n)
