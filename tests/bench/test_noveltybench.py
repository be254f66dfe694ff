"""NoveltyBench's prompts through the whole bench; random weights, so the answers mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from baco.bench.agreement import agreement
from baco.bench.results import read_results
from baco.bench.store import Store
from baco.cli import run
from baco.metrics.cache import Cache

CURATED = Path(__file__).parents[3] / "shared" / "data" / "noveltybench" / "curated.jsonl"
PLAN = """
pairs = ["BASE,ALIGNED"]
n = 2
[[datasets]]
dataset = "noveltybench"
source = "SOURCE"
[sampling]
max_new_tokens = 8
[[methods]]
method = "base"
controls = [1]
[[methods]]
method = "aligned"
controls = [1, 1.3]
[[methods]]
method = "baco"
router = "p-punc"
controls = [0.2, 0.6]
[metrics]
quality = ["ppl"]
diversity = ["dist_1", "self_rouge_l"]
"""


@pytest.mark.slow
@pytest.mark.skipif(not CURATED.is_file(), reason="NoveltyBench's file is not here")
def test_all_hundred_prompts(
    random_folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("BACO_CACHE", str(tmp_path / "cache"))
    base, aligned = map(str, random_folders)
    plan, store = tmp_path / "nb.toml", tmp_path / "nb.sqlite"
    text = PLAN.replace("BASE", base).replace("ALIGNED", aligned)
    plan.write_text(text.replace("SOURCE", str(CURATED)))
    for command in (["run"], ["score", "--offline"]):
        assert run(["bench", *command, str(plan), "--store", str(store)]) == 0
    options = ["--bootstrap", "20", "-o", str(tmp_path / "out")]
    assert run(["bench", "report", str(store), *options]) == 0
    with Store(store) as opened:
        (comparison,), problems = read_results(opened)
    assert problems == []
    assert len(comparison.records) == 100
    assert len(comparison.categories) == 6
    assert len(comparison.cells) == 5
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Factual Knowledge" in html
    assert "100 prompts, 5 settings of 3 curves" in html


def test_agreement_is_what_the_models_say(random_pair, tmp_path: Path) -> None:
    import numpy as np

    from baco.bench.records import Record
    from baco.prompts import conversation_of

    group = random_pair.generate("What is the capital of France?", n=2, max_new_tokens=12)
    record = Record("r", conversation_of("What is the capital of France?"))
    samples = [s.as_dict() for s in group]
    cache = Cache(tmp_path)
    found = agreement(random_pair, [(record, samples)], cache)

    same, count = np.zeros(10), np.zeros(10)
    for sample in samples:
        ids = sample["token_ids"]
        for t in range(1, len(ids)):
            tops = [
                int(side.partner.logits([*side.encode(record.prompt), *ids[:t]]).argmax())
                for side in random_pair.sides
            ]
            place = (t - 1) * 10 // (len(ids) - 1)
            same[place] += tops[0] == tops[1]
            count[place] += 1
    expected = np.divide(same, count, out=np.full(10, np.nan), where=count > 0)
    np.testing.assert_allclose(found, expected)
    again = agreement(random_pair, [(record, samples)], cache)
    np.testing.assert_array_equal(found, again)
    cache.close()
