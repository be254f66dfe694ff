"""Simulated annotators with a known bias and noise: to plan a study, and to rehearse one.

A vote is drawn from a planted effect plus random differences between prompts, between raters
and within a rater. The random parts are scaled so that the planted win rate holds on average over
all of them: with u ~ N(shift, 1 + prompt_sd^2 + rater_sd^2), the share of u > 0 is the win rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from statistics import NormalDist

import numpy as np

from baco.errors import InputError
from baco.reporting.resampling import Floats
from baco.study.intervals import Bootstrap, Estimate, binomial_p
from baco.study.protocol import DIVERSITY
from baco.study.store import Study, Vote

PLAN_RESAMPLES = 1000
SECONDS = {"quality": 15.0, "choice": 12.0}
"""Assumed seconds per rated response and per choice, for the effort column; a guess, not data."""


@dataclass(frozen=True)
class Raters:
    """What simulated annotators are like.

    Attributes:
        win_rate: Share of decided votes that the second method wins in diversity and creativity.
        quality_gap: How much higher the second method is rated, before rounding to the scale.
        prompt_sd: How much the effect differs between prompts, in units of a vote's own noise.
        rater_sd: How much raters differ: in the effect, and in leniency on the rating scale.
        noise: Spread of one rating around what the rater thinks, in scale points.
        ties: Share of diversity votes that are ties.
        side_bias: Share of diversity votes that go to the left side without looking.
    """

    win_rate: float = 0.65
    quality_gap: float = 0.3
    prompt_sd: float = 0.5
    rater_sd: float = 0.3
    noise: float = 0.7
    ties: float = 0.1
    side_bias: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.win_rate < 1:
            raise InputError("--win-rate must be between 0 and 1")
        if not (0 <= self.ties < 1 and 0 <= self.side_bias <= 1):
            raise InputError("--ties and --side-bias must be shares between 0 and 1")
        if min(self.prompt_sd, self.rater_sd, self.noise) < 0:
            raise InputError("spreads must not be negative")

    @property
    def shift(self) -> float:
        """Mean of u that gives the win rate over all prompts, raters and votes."""
        total = math.sqrt(1 + self.prompt_sd**2 + self.rater_sd**2)
        return NormalDist().inv_cdf(self.win_rate) * total


@dataclass(frozen=True)
class Power:
    """How often a simulated study of one size finds the planted effect.

    Attributes:
        prompts: Prompts.
        raters: Annotators.
        hours: Guessed hours of work for each annotator.
        quality: Share of studies whose interval for the quality difference excludes 0.
        diversity: Share whose bootstrap interval for the win rate excludes one half.
        exact: The same decided by an exact binomial test that takes votes as independent.
        width: Mean half-width of the win rate's interval.
        covered: Share of the win-rate intervals that contain the planted win rate.
    """

    prompts: int
    raters: int
    hours: float
    quality: float
    diversity: float
    exact: float
    width: float
    covered: float


def power(
    prompts: int,
    raters: int,
    truth: Raters,
    *,
    responses: int = 3,
    trials: int = 400,
    resample_raters: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> Power:
    """Simulates many studies of two methods and counts how many find the planted effect.

    Args:
        prompts: Prompts in each study.
        raters: Annotators in each study.
        truth: The planted effects.
        responses: Responses per method and prompt.
        trials: Studies simulated.
        resample_raters: Bootstrap over raters as well as prompts.
        level: Coverage of the intervals.
        seed: Seed.

    Returns:
        The shares. Ties count half in a win rate, so the planted share is pulled towards one half
        by the ties and by side bias; `covered` takes that into account.
    """
    if prompts < 2 or raters < 1 or trials < 1:
        raise InputError("power needs at least two prompts, one rater and one trial")
    rng = np.random.default_rng([seed, prompts, raters])
    boot = Bootstrap.draw(
        prompts,
        raters,
        resamples=PLAN_RESAMPLES,
        seed=seed,
        resample_raters=resample_raters,
        level=level,
    )
    target = 0.5 + (truth.win_rate - 0.5) * (1 - truth.ties) * (1 - truth.side_bias)
    ones = np.ones((prompts, raters))
    found = {"quality": 0, "diversity": 0, "exact": 0, "covered": 0}
    width = 0.0
    for _ in range(trials):
        votes = _choices(truth, prompts, raters, rng)
        share = boot.estimate(lambda ratio, v=votes: ratio(v, ones))  # type: ignore[misc]
        found["diversity"] += _excludes(share, 0.5)
        found["covered"] += share.low <= target <= share.high
        width += (share.high - share.low) / 2 / trials
        decided = int((votes != 0.5).sum())
        found["exact"] += binomial_p(int((votes == 1).sum()), decided) < 1 - level
        first, second = _ratings(truth, prompts, raters, responses, rng)
        gap = boot.estimate(
            lambda ratio, a=first, b=second: ratio(b, ones) - ratio(a, ones)  # type: ignore[misc]
        )
        found["quality"] += _excludes(gap, 0.0)
    seconds = prompts * (
        2 * responses * SECONDS["quality"] + (len(DIVERSITY) + 1) * SECONDS["choice"]
    )
    shares = {name: count / trials for name, count in found.items()}
    return Power(
        prompts,
        raters,
        seconds / 3600,
        shares["quality"],
        shares["diversity"],
        shares["exact"],
        width,
        shares["covered"],
    )


def _excludes(estimate: Estimate, value: float) -> bool:
    return not estimate.low <= value <= estimate.high


def _choices(truth: Raters, prompts: int, raters: int, rng: np.random.Generator) -> Floats:
    """One question's votes for the second method: 1, 0, or one half for a tie."""
    u = (
        truth.shift
        + rng.normal(0, 1, (prompts, raters))
        + rng.normal(0, 1, (prompts, 1)) * truth.prompt_sd
        + rng.normal(0, 1, (1, raters)) * truth.rater_sd
    )
    votes = (u > 0).astype(float)
    right = rng.permuted(np.arange(prompts)[:, None].repeat(raters, 1) % 2, axis=0)
    votes = np.where(rng.random(votes.shape) < truth.side_bias, 1.0 - right, votes)
    return np.where(rng.random(votes.shape) < truth.ties, 0.5, votes)


def _ratings(
    truth: Raters, prompts: int, raters: int, responses: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Mean rating of each method, prompts by raters."""
    leniency = rng.normal(0, 1, (1, raters, 1)) * truth.rater_sd
    level = 3 + rng.normal(0, 1, (prompts, 1, 1)) * truth.prompt_sd
    means = []
    for sign in (-1, 1):
        effect = rng.normal(sign * truth.quality_gap / 2, truth.prompt_sd / 2, (prompts, 1, 1))
        own = rng.normal(0, 1, (prompts, 1, responses)) * 0.5
        noise = rng.normal(0, 1, (prompts, raters, responses)) * truth.noise
        rated = np.clip(np.rint(level + effect + own + leniency + noise), 1, 5)
        means.append(rated.mean(axis=2))
    return means[0], means[1]


def rehearse(study: Study, raters: int, truth: Raters, *, seed: int = 0) -> None:
    """Fills a study with simulated annotators, marked as such.

    Every method is better than the one before it by the planted effect.

    Args:
        study: A copy of a study without votes; its invited annotators are removed.
        raters: How many annotators to add.
        truth: What they are like.
        seed: Seed.

    Raises:
        InputError: If real annotators have voted: simulated votes must never mix with real ones.
    """
    if study.votes():
        raise InputError("the study holds votes already", hint="rehearse on a copy without votes")
    study.uninvite()
    rng = Random(f"{seed}/rehearse")
    responses = study.responses()
    count = len(study.methods)
    middle = (count - 1) / 2
    mood: dict[object, float] = {}

    def once(key: object, spread: float) -> float:
        """A random effect that stays the same for one key."""
        if key not in mood:
            mood[key] = rng.gauss(0, spread)
        return mood[key]

    for annotator in study.add_annotators([None] * raters, simulated=True):
        study.accept(annotator.id)
        votes = []
        for screen in study.screens(annotator.id):
            prompt = screen.prompt
            shown = [response for response in responses if response.prompt == prompt]
            for r in shown:
                liking = (
                    3
                    + (r.method - middle) * truth.quality_gap
                    + once(("prompt", prompt), truth.prompt_sd)
                    + once(("group", prompt, r.method), truth.prompt_sd / 2)
                    + once(("response", r.id), 0.5)
                    + once(("rater", annotator.id), truth.rater_sd)
                    + rng.gauss(0, truth.noise)
                )
                rating = min(5, max(1, round(liking)))
                votes.append(Vote(annotator.id, prompt, "quality", r.id, rating))

            def winner(
                low: int, high: int, question: str, annotator: int = annotator.id, at: int = prompt
            ) -> int:
                u = (
                    truth.shift * (high - low)
                    + once((question, at, low, high), truth.prompt_sd)
                    + once((question, "rater", annotator), truth.rater_sd)
                    + rng.gauss(0, 1)
                )
                return high if u > 0 else low

            for pair, sides in enumerate(screen.sides):
                low, high = sorted(sides)
                for question in DIVERSITY:
                    choice: int | None = winner(low, high, question)
                    if rng.random() < truth.side_bias:
                        choice = sides[0]
                    if rng.random() < truth.ties:
                        choice = None
                    votes.append(Vote(annotator.id, prompt, question, pair, choice))
            best = 0
            for challenger in range(1, count):
                best = winner(best, challenger, "creativity")
            pick = rng.choice([r.id for r in shown if r.method == best])
            votes.append(Vote(annotator.id, prompt, "creativity", 0, pick))
        study.add_votes(votes)
