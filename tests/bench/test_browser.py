"""The report in a real browser: everything is drawn, nothing is fetched, nothing sticks out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from baco.bench.compare import ReportOptions
from baco.bench.report import make_report, write_report
from baco.bench.store import Store

from .example import make_store

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("matplotlib")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
    pytest.mark.slow,
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

BROKEN = "() => [...document.images].filter((i) => !i.complete || !i.naturalWidth).length"
TOO_WIDE = "() => document.documentElement.scrollWidth > innerWidth"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_the_page_in_chromium(tmp_path: Path, width: int, scheme: str) -> None:
    with Store(make_store(tmp_path / "run.sqlite")) as store:
        report = make_report(store, ReportOptions(bootstrap=10), with_models=False)
    page_file = write_report(report, tmp_path / "out")[0]
    asked: list[str] = []
    errors: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        page.goto(page_file.as_uri())
        page.evaluate("() => document.querySelectorAll('details').forEach((d) => (d.open = true))")
        assert page.title() == "made-up"
        assert page.evaluate("() => document.images.length") >= 6
        assert page.evaluate(BROKEN) == 0
        assert not page.evaluate(TOO_WIDE)
        rows = page.locator("table tr").count()
        assert rows > 100
        texts = page.locator(".base").all_inner_texts()
        assert any("w" in text for text in texts)
        shot = tmp_path / "report.png"
        page.screenshot(path=str(shot), full_page=True)
        browser.close()
    assert shot.stat().st_size > 50_000
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
