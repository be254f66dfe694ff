"""Picking a setting: against a search by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from baco.bench.pick import Wish, command, pick, table
from baco.bench.report import read_looks
from baco.bench.results import read_results
from baco.bench.store import Store
from baco.errors import InputError, UnknownNameError

from .example import make_store


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
    path: Path = make_store(tmp_path_factory.mktemp("pick") / "run.sqlite")
    with Store(path) as store:
        (comparison,), _ = read_results(store)
        looks, _ = read_looks(store, comparison)
    return comparison, looks


def diversity_by_hand(comparison, setting) -> float:
    aligned = comparison.references[1]
    ends = {
        "dist_1": 1,
        "self_bleu": 0,
        "nb_distinct@tiny": 4,
        "semantic_entropy@tiny": math.log(4),
    }
    parts = []
    for name, end in ends.items():
        zero = comparison.mean(aligned, name)
        parts.append((comparison.mean(setting, name) - zero) / (end - zero))
    return sum(parts) / len(parts)


@pytest.mark.parametrize("least", [3.0, 5.0, 6.0, 8.0, 8.9])
def test_the_most_diverse_of_enough_quality(run, least: float) -> None:
    comparison, looks = run
    own = [s for s in comparison.cells if s[0] in ("base", "aligned", "baco rand", "baco p-punc")]
    able = [s for s in own if comparison.mean(s, "reward@tiny") >= least]
    expected = max(able, key=lambda s: diversity_by_hand(comparison, s))
    found = pick(comparison, looks, Wish(min_quality=least))
    assert found.best.setting == expected
    assert found.best.diversity[0] == pytest.approx(diversity_by_hand(comparison, expected))
    assert found.best.quality[0] == pytest.approx(comparison.mean(expected, "reward@tiny"))
    assert len(found.ranked) == len(able)
    assert found.others == len(own) - len(able)
    low, high = found.best.quality[1:]
    assert low < found.best.quality[0] < high


def test_perplexity_is_better_low(run) -> None:
    comparison, looks = run
    found = pick(comparison, looks, Wish(min_quality=12, quality="ppl"))
    assert all(c.quality[0] <= 12 for c in found.ranked)
    assert found.metric.name == "ppl"
    assert "ppl at most 12" in table(found).title


def test_cost_and_base_share(run) -> None:
    comparison, looks = run
    found = pick(comparison, looks, Wish(base_share=0.3))
    away = {
        s: abs(looks[s].base_share.mean() - 0.3)
        for s in comparison.cells
        if s[0] in ("baco rand", "baco p-punc")
    }
    assert {c.setting for c in found.ranked} == {
        s for s in away if away[s] <= max(0.05, min(away.values()))
    }
    assert found.best.worth == max(c.worth for c in found.ranked)
    cheap = pick(comparison, looks, Wish(max_cost=2.0))
    assert cheap.best.setting[0] == "baco p-punc"
    with pytest.raises(InputError, match="cheapest costs 2 passes"):
        pick(comparison, looks, Wish(max_cost=1.5))


def test_the_command_uses_the_setting(run) -> None:
    comparison, looks = run
    words = pick(comparison, looks, Wish(min_quality=6)).command.split()
    assert words[:3] == ["baco", "generate", "PROMPT"]
    assert words[-4:] == ["--router", "p-punc", "--gamma", "0.4"]
    alone = pick(comparison, looks, Wish(min_quality=8.9)).command
    assert alone.endswith("--method aligned --temperature 1")


def test_the_command_names_the_method_and_all_sampling_that_is_not_usual(run) -> None:
    comparison, _ = run
    aaco = command(comparison, ("AACO p-punc", "0.4"))
    assert "--method aaco --router p-punc --gamma 0.4" in aaco
    again = command(comparison, ("p-punc, drawn again", "0.7"))
    assert again.endswith("--router p-punc --gamma 0.7 --restart-shorter-than 6")


def test_one_half_picks_and_the_other_tells(run) -> None:
    comparison, looks = run
    setting, quality, diversity = pick(comparison, looks, Wish(min_quality=6)).half
    second = [r.id for r in comparison.halves()[1]]
    values = comparison.values[setting, "reward@tiny"]
    assert quality == pytest.approx(sum(values[r] for r in second) / len(second))
    assert 0 < diversity < 1


def test_what_nothing_has(run) -> None:
    comparison, looks = run
    with pytest.raises(InputError, match="no setting fits: the best reward@tiny is "):
        pick(comparison, looks, Wish(min_quality=9.9))
    with pytest.raises(UnknownNameError, match="unknown quality metric 'beauty'"):
        pick(comparison, looks, Wish(min_quality=1, quality="beauty"))


def test_a_run_without_scores(run) -> None:
    from dataclasses import replace

    comparison, looks = run
    with pytest.raises(InputError, match="no quality metric has values"):
        pick(replace(comparison, metrics=()), looks, Wish(min_quality=1))
