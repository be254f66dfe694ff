"""Simulated studies recover the planted effect, and find nothing where nothing is."""

import math

import numpy as np
import pytest

from baco.errors import InputError
from baco.study.analysis import analyse
from baco.study.design import DesignOptions, design
from baco.study.groups import Response, StudyGroup
from baco.study.protocol import DIVERSITY, protocol
from baco.study.simulate import Raters, power, rehearse
from baco.study.store import Study, Vote


def big_study(path, prompts=150):
    """A study with many prompts, so that sampling error is small."""
    groups = [
        StudyGroup(name, "", f"p{at}", tuple(Response(f"{name} {at} {i}") for i in range(3)))
        for name in ("old", "new")
        for at in range(prompts)
    ]
    options = DesignOptions(prompts=prompts, bins=1, shortest=1, tolerance=None)
    plan = design(groups, options)
    return Study.create(path, plan, title="Big", seed=0, protocol=protocol())


@pytest.mark.parametrize(("win_rate", "gap"), [(0.8, 0.6), (0.5, 0.0), (0.3, -0.4)])
def test_report_recovers_the_planted_effect(tmp_path, win_rate, gap):
    study = big_study(tmp_path / "s.sqlite")
    truth = Raters(win_rate=win_rate, quality_gap=gap, rater_sd=0.0, ties=0.2)
    rehearse(study, 4, truth)
    report = analyse(study)
    (difference,) = report.differences
    assert difference.difference.low <= gap <= difference.difference.high
    assert abs(difference.difference.value - gap) < 0.15
    target = 0.5 + 0.8 * (win_rate - 0.5)
    for question in DIVERSITY:
        found = next(p for p in report.preferences if (p.question, p.method) == (question, "new"))
        # 150 prompts: one standard error is at most 3 points here.
        assert abs(found.share.value - target) < 0.09
        assert abs(found.exact.value - win_rate) < 0.1
        assert abs(found.ties / 600 - 0.2) < 0.06
    creative = next(
        p for p in report.preferences if (p.question, p.method) == ("creativity", "new")
    )
    assert abs(creative.share.value - win_rate) < 0.1


def test_intervals_cover_the_truth_and_false_alarms_are_rare():
    nothing = power(20, 4, Raters(win_rate=0.5, quality_gap=0, rater_sd=0, ties=0.1), trials=250)
    # Binomial(250, 0.05) stays below 0.1, and 0.95 above 0.9, but for one time in a thousand.
    assert nothing.quality < 0.1
    assert nothing.diversity < 0.1
    assert nothing.covered > 0.9
    something = power(20, 4, Raters(win_rate=0.75, rater_sd=0), trials=250)
    assert something.covered > 0.9


def test_power_grows_with_the_effect_and_the_study():
    def found(prompts, win_rate):
        return power(prompts, 4, Raters(win_rate=win_rate), trials=80).diversity

    assert found(10, 0.6) < found(40, 0.6) < found(40, 0.8)
    assert found(40, 0.8) > 0.95


def test_power_without_random_effects_equals_the_binomial():
    """With independent votes, the exact test's power can be computed."""
    from scipy import stats

    truth = Raters(win_rate=0.7, prompt_sd=0, rater_sd=0, ties=0)
    n = 40
    rejected = [k for k in range(n + 1) if stats.binomtest(k, n).pvalue < 0.05]
    expected = sum(stats.binom.pmf(k, n, 0.7) for k in rejected)
    assert power(20, 2, truth, trials=300).exact == pytest.approx(expected, abs=0.09)


def test_side_bias_shows_in_the_annotator_table_and_dilutes(tmp_path):
    study = big_study(tmp_path / "s.sqlite", prompts=60)
    rehearse(study, 2, Raters(win_rate=0.9, side_bias=0.5, ties=0.0))
    report = analyse(study)
    assert all(worker.left_share > 0.65 for worker in report.workers)
    share = next(p for p in report.preferences if p.method == "new").share.value
    assert share == pytest.approx(0.5 + 0.4 * 0.5, abs=0.09)


def test_shift_is_the_marginal_win_rate():
    truth = Raters(win_rate=0.7, prompt_sd=1.0, rater_sd=0.5)
    rng = np.random.default_rng(0)
    u = truth.shift + rng.normal(size=200_000) * math.sqrt(1 + 1 + 0.25)
    assert (u > 0).mean() == pytest.approx(0.7, abs=0.005)


def test_real_votes_never_mix_with_simulated_ones(tmp_path):
    study = big_study(tmp_path / "s.sqlite", prompts=2)
    study.add_annotators([None])
    study.add_votes([Vote(0, 0, "overall", 0, 1)])
    with pytest.raises(InputError, match="holds votes already"):
        rehearse(study, 2, Raters())
    assert len(study.votes()) == 1


def test_simulated_annotators_have_no_link(tmp_path):
    study = big_study(tmp_path / "s.sqlite", prompts=2)
    study.add_annotators(["Ada"])
    rehearse(study, 2, Raters())
    assert [(a.simulated, a.token) for a in study.annotators()] == [(True, None)] * 2


@pytest.mark.parametrize(
    "change", [{"win_rate": 1.0}, {"ties": 1.0}, {"side_bias": 2.0}, {"noise": -1.0}]
)
def test_impossible_raters(change):
    with pytest.raises(InputError):
        Raters(**change)


def test_impossible_sizes():
    with pytest.raises(InputError):
        power(1, 4, Raters())
