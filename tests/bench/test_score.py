"""Scoring a store: the values are those of `baco.metrics.score`, and nothing is computed twice."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from baco.bench import score as scoring
from baco.bench.export import export, sample_rows
from baco.bench.score import generations, score_store, scorer_of
from baco.bench.status import matrix, progress
from baco.bench.store import Store
from baco.bench.watch import Speed, line, table
from baco.errors import BacoError, InputError
from baco.metrics import score as plain
from baco.metrics.passes import ScoringOptions

from .fake import plan, work

WANTED = {
    "quality": ["reward@tiny", "nb_utility@tiny"],
    "diversity": ["dist_1", "ead_1@words", "nb_distinct@tiny", "self_bleu"],
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACO_CACHE", str(tmp_path / "cache"))
    found = tmp_path / "s.sqlite"
    work(found, plan(metrics=WANTED))
    return found


def test_values_are_those_of_metrics_score(path: Path) -> None:
    with Store(path) as store:
        outcome = score_store(store, store.plan)
        assert outcome.skipped == {}
        assert outcome.values == 6 * 8 * 6
        for cell in store.cells():
            groups = list(generations(store, cell))
            expected = plain(groups, store.plan.metrics.names)
            for name in store.plan.metrics.names:
                found = {s.record: s.value for s in store.scores(cell, name)}
                column = expected.column(name)
                assert found == {
                    str(group.extra["record"]): pytest.approx(value)
                    for group, value in zip(groups, column, strict=True)
                }
                models = {s.model for s in store.scores(cell, name)}
                assert models == {expected.models[name]}


def test_only_what_is_missing_is_computed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(path) as store:
        score_store(store, store.plan)
        calls: list[tuple[int, list[str]]] = []

        def counting(groups: list[object], names: list[str], **options: object) -> object:
            calls.append((len(groups), list(names)))
            return plain(groups, names, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(scoring, "score", counting)
        assert score_store(store, store.plan).values == 0
        assert calls == []
        more = plan(metrics={**WANTED, "extra": ["dist_2"]})
        assert score_store(store, more).values == 6 * 8
        assert calls == [(48, ["dist_2"])]
    methods = [
        *(m.model_dump() for m in plan().methods),
        {"method": "base", "controls": [0.5], "name": "cold"},
    ]
    wider = plan(metrics=WANTED, methods=methods)
    work(path, wider)
    with Store(path) as store:
        assert score_store(store, wider).values == 8 * 6


def test_what_cannot_be_computed_is_said_and_the_rest_goes_on(path: Path) -> None:
    said: list[str] = []
    with Store(path) as store:
        wanted = plan(metrics={**WANTED, "extra": ["nli_entail", "tp_div"]})
        outcome = score_store(store, wanted, offline=True, say=said.append)
        assert set(outcome.skipped) == {"nli_entail", "tp_div"}
        assert outcome.values == 6 * 8 * 6
    assert any(word.startswith("nli_entail cannot be computed") for word in said)


def test_a_scorer_word_changes_with_what_decides_values(random_folders: tuple[Path, Path]) -> None:
    one, two = (ScoringOptions(str(folder)) for folder in random_folders)
    assert scorer_of("dist_1", one) == scorer_of("dist_1", two)
    for name in ("ppl", "semantic_entropy@tiny", "ead_1"):
        assert scorer_of(name, one) != scorer_of(name, two)
    with pytest.raises(BacoError, match="needs the aligned model"):
        scorer_of("ppl", ScoringOptions())


def test_status_and_lines(path: Path) -> None:
    with Store(path) as store:
        found = progress(store)
        assert [(one.done, one.groups, one.samples) for one in found] == [(8, 8, 24)] * 6
        ((_, curve, cells), *_) = matrix(found)
        assert (curve, cells) == ("base", [("0.7", "✓"), ("1", "✓")])
        store.fail(found[0].cell.key, store.records(found[0].cell)[0].id, "no")
        assert progress(store)[0].shown == "✗ 8/8"
    rate = Speed()
    rate.add(0.0, 0)
    assert rate.value == 0
    rate.add(2.0, 10)
    assert rate.value == 5
    half = [one._replace(samples=12, done=4) for one in found]
    assert line(half, 6.0) == (
        "72 of 144 samples (50%), 0 of 6 cells, 6.0 samples a second, 12 s left"
    )
    assert table(half, 6.0).row_count == 3


def test_exports(path: Path, tmp_path: Path) -> None:
    import pyarrow.parquet

    with Store(path) as store:
        score_store(store, store.plan)
        rows = list(sample_rows(store))
        assert export(store, tmp_path / "a.jsonl") == len(rows) == 6 * 8 * 3
        lines = (tmp_path / "a.jsonl").read_text().splitlines()
        assert [json.loads(text) for text in lines] == rows
        assert export(store, tmp_path / "a.parquet") == len(rows)
        read = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist()
        for name in ("cell", "record", "text", "token_ids", "sources", "base_share", "index"):
            assert [row[name] for row in read] == [row[name] for row in rows]
        assert [json.loads(row["cost"]) for row in read] == [row["cost"] for row in rows]
        count = export(store, tmp_path / "s.parquet", "scores")
        assert count == 6 * 8 * 6
        values = pyarrow.parquet.read_table(tmp_path / "s.parquet").to_pylist()
        cell = store.cells()[2]
        expected = {(s.record, s.metric): s.value for s in store.scores(cell)}
        found = {(v["record"], v["metric"]): v["value"] for v in values if v["cell"] == cell.key}
        assert {k: math.nan if v is None else v for k, v in found.items()} == expected
        with pytest.raises(InputError, match="cannot export 'votes'"):
            export(store, tmp_path / "x.jsonl", "votes")
        with pytest.raises(InputError, match="unknown format"):
            export(store, tmp_path / "x.csv")
        with pytest.raises(BacoError, match="cannot write"):
            export(store, tmp_path / "none" / "x.jsonl")
