"""From votes to numbers: means, win rates, agreement, correlation with automatic metrics.

Paper: §5.5 and Table 5 (quality as mean ratings, the rest as win rates). A tie counts half for
each side in a win rate; the exact interval leaves ties out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from baco.reporting.resampling import Floats
from baco.study import agreement
from baco.study.intervals import Bootstrap, Estimate, binomial_p, exact_share, scipy_stats
from baco.study.protocol import DIVERSITY, QUESTIONS
from baco.study.store import Study, Vote

AutomaticScores = Mapping[tuple[str, str], Mapping[str, float]]
"""Automatic scores of whole groups, by (prompt text, method)."""


class Quality(NamedTuple):
    """Mean rating of one method; interval by bootstrap over prompts."""

    method: str
    mean: Estimate
    counts: dict[int, int]


class Difference(NamedTuple):
    """How much better the second method was rated than the first, also relative to the first."""

    first: str
    second: str
    difference: Estimate
    relative: Estimate


class Preference(NamedTuple):
    """How often one method won a question against another, or against all others.

    Attributes:
        question: The question.
        method: The method.
        against: The other method, or "all others".
        wins: Votes for the method.
        losses: Votes against it.
        ties: Votes for neither.
        share: Wins plus half the ties, over all votes; interval by bootstrap over prompts.
        exact: Wins over decided votes; exact binomial interval.
        p: Exact two-sided p-value of the decided votes against chance.
        chance: The share a method gets when votes are random.
    """

    question: str
    method: str
    against: str
    wins: int
    losses: int
    ties: int
    share: Estimate
    exact: Estimate
    p: float
    chance: float


class Agreement(NamedTuple):
    """Agreement of the raters on one question; NaN where it does not apply.

    Attributes:
        question: The question.
        raters: Raters with a vote.
        items: Things voted on.
        complete: Those that every rater voted on (ICC and kappa use only these).
        pearson: Mean over rater pairs (quality).
        icc: ICC(2,k) (quality).
        kappa: Fleiss' kappa (choices).
        alpha: Krippendorff's alpha: ordinal for quality, nominal for choices.
    """

    question: str
    raters: int
    items: int
    complete: int
    pearson: float
    icc: float
    kappa: float
    alpha: float


class Correlation(NamedTuple):
    """Correlation of human votes with one automatic metric.

    For quality the units are responses (mean rating against the response's score). For the other
    questions they are pairs of groups: net share of votes against the difference of the scores.
    """

    question: str
    metric: str
    units: int
    pearson: float
    spearman: float


class AnnotatorWork(NamedTuple):
    """What one annotator did; names stay in the study file."""

    label: str
    simulated: bool
    votes: int
    expected: int
    minutes: float
    mean_rating: float
    left_share: float
    changed: int


@dataclass
class Report:
    """Everything a report shows, ready for tables, plots and JSON."""

    title: str
    methods: list[str]
    prompts: int
    responses: int
    simulated: bool
    withdrawn: int
    level: float
    resampled: str
    quality: list[Quality]
    differences: list[Difference]
    preferences: list[Preference]
    agreement: list[Agreement]
    correlations: list[Correlation]
    workers: list[AnnotatorWork]
    comments: list[dict[str, str]]
    design: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Plain data for JSON; what cannot be computed is null."""
        cleaned = _null(asdict(self))
        assert isinstance(cleaned, dict)
        return cleaned


def _null(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _null(value._asdict())
    if isinstance(value, dict):
        return {str(key): _null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_null(item) for item in value]
    return value


class Tally:
    """The votes of a study as arrays of prompts by raters.

    Args:
        study: The study.

    Attributes:
        raters: Ids of the annotators with at least one vote.
    """

    def __init__(self, study: Study) -> None:
        self.methods = study.methods
        self.prompts = len(study.prompts)
        self.votes = study.votes()
        self.raters = sorted({vote.annotator for vote in self.votes})
        self.responses = {response.id: response for response in study.responses()}
        self.pairs = list(itertools.combinations(range(len(self.methods)), 2))
        self._column = {rater: at for at, rater in enumerate(self.raters)}

    def empty(self) -> Floats:
        """Zeros, prompts by raters."""
        return np.zeros((self.prompts, len(self.raters)))

    def of(self, question: str) -> list[Vote]:
        """The votes on one question."""
        return [vote for vote in self.votes if vote.question == question]

    def ratings(self, method: int) -> tuple[Floats, Floats]:
        """Sum and number of the ratings of a method."""
        sums, counts = self.empty(), self.empty()
        for vote in self.of("quality"):
            if self.responses[vote.item].method == method and vote.choice is not None:
                sums[vote.prompt, self._column[vote.annotator]] += vote.choice
                counts[vote.prompt, self._column[vote.annotator]] += 1
        return sums, counts

    def winner(self, vote: Vote) -> int | None:
        """The method a choice went to; None for a tie."""
        if vote.question == "creativity" and vote.choice is not None:
            return self.responses[vote.choice].method
        return vote.choice

    def wins(
        self, question: str, method: int, against: int | None
    ) -> tuple[Floats, Floats, Floats]:
        """Wins, ties and votes of a method on one question, against one other or all."""
        wins, ties, votes = self.empty(), self.empty(), self.empty()
        for vote in self.of(question):
            if question != "creativity":
                pair = self.pairs[vote.item]
                if method not in pair or (against is not None and against not in pair):
                    continue
            place = vote.prompt, self._column[vote.annotator]
            winner = self.winner(vote)
            votes[place] += 1
            wins[place] += winner == method
            ties[place] += winner is None
        return wins, ties, votes

    def codes(self, question: str) -> Floats:
        """Items by raters: ratings, or the method chosen with the tie as the last category."""
        rows: dict[tuple[int, int], Floats] = {}
        for vote in self.of(question):
            row = rows.setdefault((vote.prompt, vote.item), np.full(len(self.raters), math.nan))
            value = vote.choice if question == "quality" else self.winner(vote)
            row[self._column[vote.annotator]] = len(self.methods) if value is None else value
        table = [rows[key] for key in sorted(rows)]
        return np.array(table) if table else np.empty((0, len(self.raters)))


def analyse(
    study: Study,
    *,
    level: float = 0.95,
    seed: int = 0,
    resample_raters: bool = False,
    scores: AutomaticScores | None = None,
) -> Report:
    """Analyses a study.

    Args:
        study: The study.
        level: Coverage of the intervals.
        seed: Seed of the bootstrap.
        resample_raters: Draw raters as well as prompts, which speaks about raters in general and
            not only about these.
        scores: Further automatic scores of groups, by (prompt, method).

    Returns:
        The report.
    """
    tally = Tally(study)
    boot = Bootstrap.draw(
        tally.prompts,
        max(len(tally.raters), 1),
        seed=seed,
        resample_raters=resample_raters,
        level=level,
    )
    annotators = study.annotators()
    return Report(
        title=study.fact("title"),
        methods=tally.methods,
        prompts=tally.prompts,
        responses=len(tally.responses) // (tally.prompts * len(tally.methods)),
        simulated=any(annotator.simulated for annotator in annotators),
        withdrawn=sum(annotator.withdrawn is not None for annotator in annotators),
        level=level,
        resampled="prompts and raters" if resample_raters else "prompts",
        quality=_quality(tally, boot),
        differences=_differences(tally, boot),
        preferences=_preferences(tally, boot),
        agreement=[_agreement(tally, question) for question in QUESTIONS],
        correlations=_correlations(study, tally, scores or {}),
        workers=_workers(study, tally),
        comments=_comments(study),
        design=study.fact("design"),
    )


def _quality(tally: Tally, boot: Bootstrap) -> list[Quality]:
    result = []
    for at, name in enumerate(tally.methods):
        sums, counts = tally.ratings(at)
        given = [
            vote.choice
            for vote in tally.of("quality")
            if vote.choice is not None and tally.responses[vote.item].method == at
        ]
        mean = _estimate(boot, tally, lambda ratio, s=sums, c=counts: ratio(s, c))
        result.append(Quality(name, mean, {rating: given.count(rating) for rating in range(1, 6)}))
    return result


def _estimate(boot: Bootstrap, tally: Tally, statistic: Any) -> Estimate:
    return boot.estimate(statistic) if tally.raters else Estimate(math.nan)


def _differences(tally: Tally, boot: Bootstrap) -> list[Difference]:
    result = []
    for first, second in tally.pairs:
        (s1, c1), (s2, c2) = tally.ratings(first), tally.ratings(second)
        result.append(
            Difference(
                tally.methods[first],
                tally.methods[second],
                _estimate(
                    boot,
                    tally,
                    lambda r, s1=s1, c1=c1, s2=s2, c2=c2: r(s2, c2) - r(s1, c1),
                ),
                _estimate(
                    boot,
                    tally,
                    lambda r, s1=s1, c1=c1, s2=s2, c2=c2: r(s2, c2) / r(s1, c1) - 1,
                ),
            )
        )
    return result


def _preferences(tally: Tally, boot: Bootstrap) -> list[Preference]:
    others = len(tally.methods) - 1
    result = []
    for question in (*DIVERSITY, "creativity"):
        for method, name in enumerate(tally.methods):
            chance = 1 / (others + 1) if question == "creativity" else 0.5
            rivals: list[int | None] = [None]
            if others > 1 and question != "creativity":
                rivals += [rival for rival in range(others + 1) if rival != method]
            for rival in rivals:
                wins, ties, votes = tally.wins(question, method, rival)
                won, tied, total = (int(table.sum()) for table in (wins, ties, votes))
                against = tally.methods[rival] if rival is not None else "all others"
                if others == 1:
                    against = tally.methods[1 - method]
                result.append(
                    Preference(
                        question,
                        name,
                        against,
                        won,
                        total - won - tied,
                        tied,
                        _estimate(boot, tally, lambda r, w=wins, t=ties, v=votes: r(w + t / 2, v)),
                        exact_share(won, total - tied, boot.level),
                        binomial_p(won, total - tied, chance),
                        chance,
                    )
                )
    return result


def _agreement(tally: Tally, question: str) -> Agreement:
    codes = tally.codes(question)
    rated = question == "quality"
    return Agreement(
        question,
        int((~np.isnan(codes)).any(axis=0).sum()) if len(codes) else 0,
        len(codes),
        len(agreement.complete(codes)) if len(codes) else 0,
        agreement.mean_pairwise_pearson(codes) if rated else math.nan,
        agreement.icc_2k(codes) if rated else math.nan,
        math.nan if rated else agreement.fleiss_kappa(agreement.category_counts(codes)),
        agreement.krippendorff_alpha(codes, "ordinal" if rated else "nominal"),
    )


def _correlations(study: Study, tally: Tally, extra: AutomaticScores) -> list[Correlation]:
    """Votes against every metric at hand; the length in words is always at hand."""
    result = []
    ratings: dict[int, list[int]] = {}
    for vote in tally.of("quality"):
        if vote.choice is not None:
            ratings.setdefault(vote.item, []).append(vote.choice)
    each = {
        response.id: {"words": float(len(response.text.split())), **response.scores}
        for response in tally.responses.values()
    }
    for metric in _names(each.values()):
        pairs = [
            (each[item][metric], sum(given) / len(given))
            for item, given in ratings.items()
            if metric in each[item]
        ]
        result.append(_correlation("quality", metric, pairs))
    groups = _group_scores(study, tally, each, extra)
    for question in (*DIVERSITY, "creativity"):
        for metric in _names(groups.values()):
            pairs = []
            for first, second in tally.pairs:
                ahead = tally.wins(question, second, first)[0].sum(axis=1)
                behind = tally.wins(question, first, second)[0].sum(axis=1)
                votes = tally.wins(question, second, first)[2].sum(axis=1)
                for prompt in range(tally.prompts):
                    one, two = groups[prompt, first], groups[prompt, second]
                    if votes[prompt] and metric in one and metric in two:
                        net = (ahead[prompt] - behind[prompt]) / votes[prompt]
                        pairs.append((two[metric] - one[metric], float(net)))
            result.append(_correlation(question, metric, pairs))
    return result


def _group_scores(
    study: Study, tally: Tally, each: Mapping[int, Mapping[str, float]], extra: AutomaticScores
) -> dict[tuple[int, int], dict[str, float]]:
    """Scores of groups: their own, means of their shown responses' scores, and further ones."""
    texts = study.prompts
    result = {}
    for (prompt, method), own in study.group_scores().items():
        shown = [
            each[response.id]
            for response in tally.responses.values()
            if (response.prompt, response.method) == (prompt, method)
        ]
        means = {
            name: sum(scores[name] for scores in shown) / len(shown)
            for name in _names(shown)
            if all(name in scores for scores in shown)
        }
        further = extra.get((texts[prompt], tally.methods[method]), {})
        result[prompt, method] = {**means, **own, **further}
    return result


def _names(rows: Any) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _correlation(question: str, metric: str, pairs: Sequence[tuple[float, float]]) -> Correlation:
    table = np.array(pairs, dtype=float).reshape(-1, 2)
    if len(table) < 3:
        return Correlation(question, metric, len(table), math.nan, math.nan)
    ranks = scipy_stats().rankdata(table, axis=0)
    return Correlation(
        question, metric, len(table), agreement.pearson(table), agreement.pearson(ranks)
    )


def _workers(study: Study, tally: Tally) -> list[AnnotatorWork]:
    result = []
    for annotator in study.annotators():
        if annotator.withdrawn is not None:
            continue
        screens = {screen.prompt: screen for screen in study.screens(annotator.id)}
        votes = [vote for vote in tally.votes if vote.annotator == annotator.id]
        given = [v.choice for v in votes if v.question == "quality" and v.choice is not None]
        left = [
            float(screens[v.prompt].sides[v.item][0] == v.choice)
            for v in votes
            if v.question in DIVERSITY and v.choice is not None
        ]
        expected = sum(
            len(s.positions) + len(DIVERSITY) * len(s.sides) + 1 for s in screens.values()
        )
        clicks = len(study.clicks(annotator.id))
        result.append(
            AnnotatorWork(
                f"A{annotator.id + 1}",
                annotator.simulated,
                len(votes),
                expected,
                study.active_ms(annotator.id) / 60_000,
                sum(given) / len(given) if given else math.nan,
                sum(left) / len(left) if left else math.nan,
                max(clicks - len(votes), 0),
            )
        )
    return result


def _comments(study: Study) -> list[dict[str, str]]:
    prompts = study.prompts
    return [
        {
            "annotator": f"A{annotator + 1}",
            "prompt": prompts[prompt] if prompt >= 0 else "the study as a whole",
            "text": text,
        }
        for annotator, prompt, text in study.comments()
    ]
