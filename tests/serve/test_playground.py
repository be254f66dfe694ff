"""The playground in a real browser: asks, slides, compares, exports, by mouse and by keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baco.pair import Pair
from baco.serve import create_app

from .conftest import running

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

PATIENCE = 300_000  # milliseconds; slow machines are slow


@pytest.fixture
def opened(browser: Any, url: str) -> Iterator[Any]:
    """Opens the playground in fresh contexts; fails on errors and on requests elsewhere."""
    contexts, wrong = [], []

    def open_page(**options: Any) -> Any:
        context = browser.new_context(accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(url) else None)
        page.goto(url)
        page.wait_for_selector(".chip")
        page.evaluate("document.getElementById('advanced').open = true")
        page.fill("#max_tokens", "12")
        page.fill("#n", "3")
        page.evaluate("document.getElementById('advanced').open = false")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [w for w in wrong if not w.startswith("blob:")] == []


def wait_until_done(page: Any) -> None:
    """Waits until every answer is there and the page has put the question into its history."""
    page.wait_for_function(
        "() => document.getElementById('status').textContent.startsWith('All')"
        " && document.getElementById('stop').disabled"
        " || !document.getElementById('problem').hidden"
    )
    assert page.is_hidden("#problem"), page.text_content("#problem")


def answers(page: Any) -> list[str]:
    return page.eval_on_selector_all(".card .text", "nodes => nodes.map(n => n.textContent)")


def slide(page: Any, value: float) -> None:
    page.evaluate(
        "v => { const s = document.getElementById('diversity'); s.value = v;"
        " for (const kind of ['input', 'change']) s.dispatchEvent(new Event(kind)); }",
        value,
    )


def test_sliding_changes_answers_and_colours(opened: Any) -> None:
    page = opened()
    slide(page, 0)
    page.fill("#prompt", "Name a city.")
    page.click("#go")
    wait_until_done(page)
    careful = answers(page)
    assert len(careful) == 3
    assert page.locator(".w.base").count() == page.locator("#legend .w.base").count()
    page.evaluate("document.getElementById('status').textContent = ''")
    slide(page, 1)  # asks again by itself
    wait_until_done(page)
    assert answers(page) != careful
    assert page.locator("#lanes .w.base").count() > 0
    # The server compares the answers once they are all there: the figures come after them.
    page.wait_for_function("() => document.querySelectorAll('#figures dt').length >= 3")
    page.uncheck("#colours")
    assert page.is_hidden("#legend")


def test_nothing_of_a_refused_answer_is_shown(browser: Any, pair: Pair) -> None:
    """Neither in the page nor in what it keeps or exports."""
    refused: list[str] = []
    passed: list[str] = []

    def keep(prompt: object, text: str) -> bool:
        (passed if refused else refused).append(text)
        return bool(passed)

    with running(create_app({"toy": pair}, keep=keep)) as address:
        page = browser.new_context().new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        page.wait_for_selector(".chip")
        page.evaluate("document.getElementById('advanced').open = true")
        page.fill("#max_tokens", "12")
        page.fill("#n", "3")
        page.fill("#prompt", "Name a city.")
        page.click("#go")
        wait_until_done(page)
        page.wait_for_function("() => document.querySelectorAll('#figures dt').length >= 1")
        shown = page.inner_text("body")
        everything = page.content() + page.evaluate("JSON.stringify(localStorage)")
        page.context.close()
    assert (len(refused), len(passed)) == (1, 2)
    assert refused[0].strip()
    assert shown.count("withheld by the server's filter") == 1
    first = max(passed, key=len).split()
    assert " ".join(first) in " ".join(shown.split())
    for text in (refused[0], json.dumps(refused[0])[1:-1]):
        assert text.strip() not in everything
    assert " ".join(refused[0].split()) not in " ".join(shown.split())


def test_comparing_keeping_and_taking_away(opened: Any, tmp_path: Path) -> None:
    page = opened()
    page.fill("#prompt", "Name a river.")
    page.check("#compare")
    page.click("#go")
    wait_until_done(page)
    assert page.locator(".lane").count() == 3
    assert page.locator(".card").count() == 9
    page.locator(".pin").first.click()
    assert page.text_content("#favourite-count") == "1"
    with page.expect_download() as got:
        page.click("#export-jsonl")
    got.value.save_as(tmp_path / "answers.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [row["method"] for row in rows] == ["baco"] * 3 + ["aligned"] * 3 + ["base"] * 3
    assert all("".join(row["tokens"]) == row["text"] for row in rows)
    with page.expect_download() as got:
        page.click("#export-md")
    got.value.save_as(tmp_path / "answers.md")
    assert (tmp_path / "answers.md").read_text().startswith("# Name a river.")
    page.reload()
    page.wait_for_selector(".chip")
    page.click("#open-history")
    assert "Name a river." in page.text_content("#history-list")
    page.keyboard.press("Escape")
    page.click("#open-favourites")
    assert page.locator("#favourite-list article").count() == 1


def test_keyboard_alone(opened: Any) -> None:
    page = opened()

    def focus(target: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id || document.activeElement.className") == (
                target
            ):
                return
        raise AssertionError(f"{target} cannot be reached with the Tab key")

    focus("prompt")
    page.keyboard.type("Name a song.")
    focus("diversity")
    before = page.input_value("#diversity")
    page.keyboard.press("ArrowRight")
    assert float(page.input_value("#diversity")) > float(before)
    page.keyboard.press("Control+Enter")
    wait_until_done(page)
    focus("card")
    focus("pin")
    page.keyboard.press("Enter")
    assert page.text_content("#favourite-count") == "1"


def test_phone_width_has_one_column_and_no_sideways_scrolling(opened: Any) -> None:
    page = opened(viewport={"width": 360, "height": 740})
    page.fill("#prompt", "Name a dish.")
    page.click("#go")
    wait_until_done(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    lefts = page.eval_on_selector_all(
        ".card",
        "nodes => nodes.filter(n => n.checkVisibility()).map(n => n.getBoundingClientRect().left)",
    )
    assert len(set(lefts)) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(opened: Any, scheme: str) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs axe-playwright-python"
    )
    page = opened(color_scheme=scheme)
    page.fill("#prompt", "Name a bird.")
    page.check("#compare")
    page.click("#go")
    wait_until_done(page)
    page.click("#advanced summary")
    found = axe.Axe().run(page).response["violations"]
    serious = [v for v in found if v["impact"] in ("serious", "critical")]
    assert serious == [], [(v["id"], [n["target"] for n in v["nodes"]]) for v in serious]


def test_problems_are_told_in_words(opened: Any) -> None:
    page = opened()
    page.fill("#prompt", "Name a book.")
    page.evaluate("document.getElementById('advanced').open = true")
    page.fill("#temperature", "2")
    page.evaluate("document.getElementById('temperature').value = 9")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#problem:not([hidden])")
    assert "temperature" in page.text_content("#problem")
