"""Every plan that a document shows goes through run, score, report and pick, as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from baco.bench.results import read_results
from baco.bench.store import Store
from baco.cli import run
from baco.tiny.world import prompts

ROOT = Path(__file__).parents[2]
PLANS = [
    pytest.param(block, id=f"{path.relative_to(ROOT)}-{number}")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for number, block in enumerate(
        re.findall(r"```toml\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    )
    if "[[methods]]" in block
]


@pytest.mark.parametrize("text", PLANS)
def test_a_documented_plan_is_run_and_reported(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("BACO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": p.id, "prompt": p.text, "category": "ab"[i % 2], "prompt_paraphrases": []}
        for i, p in enumerate(prompts("heldout")[:6])
    ]
    Path("curated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("plan.toml").write_text(text)
    assert run(["bench", "run", "plan.toml"]) == 0
    assert run(["bench", "score", "plan.toml", "--offline"]) == 0
    assert run(["bench", "report", "plan.toml", "--bootstrap", "20", "--out", "out"]) == 0
    assert (tmp_path / "out" / "report.html").is_file()
    capsys.readouterr()
    # Of a reward at least, of perplexity at most.
    bar = "1" if 'quality = ["reward@tiny"' in text else "100"
    assert run(["bench", "pick", "plan.toml", "--min-quality", bar]) == 0
    told = capsys.readouterr().out
    assert "baco generate PROMPT" in told
    assert "--max-new-tokens 64" in told
    with Store(Path("plan.sqlite")) as store:
        (comparison,), problems = read_results(store)
    assert not problems
    assert comparison.references == (("base", "1"), ("aligned", "1"))
    found = json.loads((tmp_path / "out" / "findings.json").read_text())
    told = json.dumps(found, ensure_ascii=False)
    # A router that the plan leaves to its default is one: p-punc, which the findings are about.
    assert "early stops become more frequent with γ (p-punc)" in told
    assert "no router was run" not in told


def test_documents_show_plans() -> None:
    assert PLANS
