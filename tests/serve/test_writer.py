"""A writer at the playground: writes, draws more, keeps, edits, folds, takes away, comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import baco
from baco.serve import Settings, create_app

from .conftest import running

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

PATIENCE = 300_000  # milliseconds; slow machines are slow
ASK = "My comic has a wise wizard without a name. Suggest one."
CHAT = "**/v1/chat/completions"
PHONE, DESK = {"width": 375, "height": 780}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def tiny() -> Iterator[str]:
    with running(create_app({"tiny": baco.load("tiny")}, Settings(max_rows=40))) as address:
        yield address


@pytest.fixture
def page(browser: Any, tiny: str) -> Iterator[Any]:
    """The playground in a fresh context; fails on errors of the page and on broken policy."""
    context = browser.new_context(accept_downloads=True, viewport=DESK)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None,
    )
    page.goto(tiny)
    page.wait_for_selector(".chip")
    yield page
    context.close()
    assert wrong == []


def done(page: Any) -> None:
    page.wait_for_function(
        "() => document.getElementById('status').textContent.startsWith('All')"
        " && document.getElementById('stop').disabled"
        " || !document.getElementById('problem').hidden"
    )
    assert page.is_hidden("#problem"), page.text_content("#problem")


def write(page: Any, prompt: str = ASK, n: int = 4) -> None:
    page.fill("#prompt", prompt)
    page.fill("#n", str(n))
    page.click("#go")
    done(page)


def texts(page: Any) -> list[str]:
    return page.eval_on_selector_all(".card .text", "nodes => nodes.map(n => n.textContent)")


def sent(page: Any) -> list[dict[str, Any]]:
    """The requests for answers that the page sends from now on."""
    bodies: list[dict[str, Any]] = []
    page.on(
        "request",
        lambda r: bodies.append(r.post_data_json) if r.url.endswith("/completions") else None,
    )
    return bodies


def test_writing_again_is_new_and_a_kept_seed_is_not(page: Any) -> None:
    write(page)
    first, seed = texts(page), page.input_value("#seed")
    write(page)
    second = texts(page)
    assert page.input_value("#seed") != seed
    assert second != first
    page.fill("#seed", seed)
    page.check("#lock")
    write(page)
    assert sorted(texts(page)) == sorted(first)
    assert page.input_value("#seed") == seed


def test_more_and_like_and_fewer(page: Any) -> None:
    asked = sent(page)
    write(page)
    page.click("#more")
    done(page)
    assert page.locator(".card").count() == 8
    assert asked[0]["seed"] != asked[1]["seed"]
    page.locator(".lane > .grid .like").first.click()
    done(page)
    assert asked[2]["n"] == 8
    assert page.locator(".card").count() == 16
    page.locator(".lane > .grid .unlike").first.click()
    page.wait_for_selector(".fold.fewer:not([hidden])")
    assert "like what you wanted fewer of" in page.text_content(".fold.fewer > summary")
    told = page.eval_on_selector_all(".fold.fewer .group", "nodes => nodes.map(n => n.textContent)")
    assert set(told) == {"you wanted fewer like this"}


def test_up_to_64_answers_and_no_more(page: Any) -> None:
    assert page.get_attribute("#n", "max") == "64"
    page.evaluate("max_tokens.value = 6")
    write(page, n=64)
    assert page.locator(".card").count() == 64
    assert page.is_disabled("#more")


def test_going_on_from_a_word(page: Any) -> None:
    asked = sent(page)
    write(page)
    before = texts(page)[0]
    page.locator(".lane > .grid .continue").first.click()
    page.locator(".word").nth(1).press("Enter")
    done(page)
    prefix = asked[-1]["messages"][-1]
    assert prefix["role"] == "assistant"
    assert before.startswith(prefix["content"].strip())
    begun = [text for text in texts(page)[:] if text.startswith(prefix["content"].strip())]
    assert len(begun) >= 4
    assert page.locator(".w.yours").count() >= 4


def test_editing_and_markdown_never_make_markup(page: Any) -> None:
    write(page)
    page.locator(".lane > .grid .edit").first.click()
    nasty = "# Mine\n\n- **bold** <img src=x onerror=alert(1)>\n\n[a](javascript:alert(1))"
    page.locator(".card textarea").fill(nasty)
    page.click(".save")
    card = page.locator(".card").filter(has_text="edited by you")
    assert "<img src=x" in card.locator(".text").text_content()
    page.check("#formatted")
    text = card.locator(".text")
    assert text.locator("li strong").text_content() == "bold"
    assert text.locator("img, a, script").count() == 0
    assert "<img src=x onerror=alert(1)>" in text.text_content()


def test_repeats_and_broken_answers_are_folded_with_the_reason(page: Any) -> None:
    page.evaluate("diversity.value = 0")
    write(page, n=10)
    page.wait_for_selector(".fold.repeat:not([hidden])")
    told = page.text_content(".fold.repeat .card .group")
    assert told.startswith("much like answer ")
    assert page.locator(".fold.repeat").get_attribute("open") is None
    page.evaluate("diversity.value = 0.25; max_tokens.value = 18; seed.value = 1")
    page.check("#lock")
    write(page, n=10)
    page.wait_for_selector(".fold.broken:not([hidden])")
    assert page.text_content(".fold.broken .group") == "was cut off at the longest length"
    page.evaluate("max_tokens.value = 4")
    write(page)  # where nothing else is left, they are shown, with the reason
    assert page.locator(".lane > .grid .card").count() == 4
    told = page.eval_on_selector_all(".card .group", "nodes => nodes.map(n => n.textContent)")
    assert set(told) == {"was cut off at the longest length"}


def test_quality_stands_beside_diversity(page: Any) -> None:
    write(page, n=8)
    page.wait_for_selector("#figures dt")
    names = page.eval_on_selector_all("#figures dt", "nodes => nodes.map(n => n.textContent)")
    assert names[:2] == ["Different and right", "Right answers"]
    verdicts = page.eval_on_selector_all(".verdict", "nodes => nodes.map(n => n.textContent)")
    right = sum(verdict == "right" for verdict in verdicts)
    shown = page.eval_on_selector_all("#figures dd", "nodes => nodes.map(n => n.textContent)")
    assert shown[1] == f"{right} of 8"
    assert int(shown[0].split()[0]) <= right
    assert page.is_hidden("#note")


def test_the_toy_says_where_its_world_ends(page: Any) -> None:
    write(page, "Why is the sky blue?")
    assert page.is_visible("#note")
    assert "knows its own small world only" in page.text_content("#note")


def test_lanes_lie_side_by_side_on_a_desk_and_stack_on_a_phone(page: Any) -> None:
    page.check("#compare")
    write(page, n=2)

    def tops() -> int:
        return len(
            set(
                page.eval_on_selector_all(
                    ".lane", "nodes => nodes.map(n => Math.round(n.getBoundingClientRect().top))"
                )
            )
        )

    assert tops() == 1
    page.set_viewport_size(PHONE)
    assert tops() == 3
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_slider_works_before_the_pair_is_calibrated(page: Any) -> None:
    state = {"ready": False, "running": True, "done": 0.4, "retry_after": 1}
    told = page.evaluate("() => fetch('/baco/info').then((r) => r.json())")
    [rough] = [r["prior"] for r in told["routers"] if r["name"] == "p-punc"]
    page.route("**/baco/calibration*", lambda route: route.fulfill(json=state))
    page.reload()
    page.wait_for_function(
        "() => document.getElementById('dial-note').textContent.includes('40 %')"
    )
    page.check("#lock")  # another seed may happen to give just the share that was guessed
    asked = sent(page)
    page.evaluate("diversity.value = 0.5")
    write(page)
    assert (asked[-1]["gamma"], asked[-1].get("diversity")) == (rough[10], None)
    write(page)  # what came out at the first guess has bent it
    assert asked[-1]["gamma"] != rough[10]
    page.unroute("**/baco/calibration*")
    page.wait_for_function("() => !document.getElementById('dial-note').textContent.includes('%')")
    write(page)
    assert (asked[-1].get("gamma"), asked[-1]["diversity"]) == (None, 0.5)


def test_the_server_goes_away_and_comes_back(page: Any) -> None:
    page.check("#lock")
    write(page)
    whole = sorted(texts(page))
    page.route("**/health", lambda route: route.abort())
    page.route(CHAT, lambda route: route.abort())
    page.click("#go")
    page.wait_for_selector("#problem:not([hidden])")
    assert "The server does not answer any more" in page.text_content("#problem")
    assert page.is_visible("#resume")
    page.unroute(CHAT)
    page.unroute("**/health")
    done_again = "() => document.getElementById('problem').hidden"
    page.wait_for_function(done_again)
    done(page)
    assert sorted(texts(page)) == whole


def test_stop_is_always_there(page: Any) -> None:
    assert page.is_visible("#stop")
    assert page.is_disabled("#stop")
    page.route(CHAT, lambda route: None)  # an answer that never comes
    page.fill("#prompt", ASK)
    page.click("#go")
    assert page.is_enabled("#stop")
    page.keyboard.press("Escape")
    assert page.text_content("#status") == "Stopped."
    assert page.is_disabled("#stop")


def test_talks_and_instructions_reach_the_models(page: Any) -> None:
    asked = sent(page)
    page.evaluate("advanced.open = true")
    page.fill("#system", "Be brief.")
    write(page, n=2)
    said = texts(page)[0]
    page.locator(".lane > .grid .reply").first.click()
    write(page, "Another one, please.", n=2)
    roles = [(m["role"], m["content"].strip()) for m in asked[-1]["messages"]]
    assert roles == [
        ("system", "Be brief."),
        ("user", ASK),
        ("assistant", said.strip()),
        ("user", "Another one, please."),
    ]
    page.click("#new-talk")
    write(page, n=2)
    assert [m["role"] for m in asked[-1]["messages"]] == ["system", "user"]


def test_routers_have_three_names_for_people(page: Any) -> None:
    page.evaluate("advanced.open = true")
    assert page.locator("#family option").count() == 3
    assert not page.is_visible("#router")
    page.select_option("#family", "chance")
    page.evaluate("researchers.open = true")
    assert page.input_value("#router") == "rand"
    page.select_option("#router", "h-punc")
    assert page.input_value("#family") == "doubt"
    assert page.locator("#router option").count() > 10


def test_a_writers_hour(page: Any, tmp_path: Path) -> None:
    """Writes, draws more, keeps, edits, saves, reloads, opens again, moves to a new browser."""
    write(page)
    page.click("#more")
    done(page)
    page.click("#open-favourites")
    page.fill("#project-name", "Comic")
    page.click("#project-add")
    page.keyboard.press("Escape")
    page.locator(".lane > .grid .pin").first.click()
    page.locator(".lane > .grid .edit").nth(1).click()
    page.locator(".card textarea").fill("Call him Old Bartleby.")
    page.click(".save")
    page.locator(".card").filter(has_text="Old Bartleby").locator(".pin").click()
    assert page.text_content("#favourite-count") == "2"
    before = sorted(texts(page))
    page.reload()
    page.wait_for_selector(".chip")
    asked = sent(page)
    assert page.input_value("#project") == "Comic"
    page.click("#open-history")
    page.click("#history-list button")
    assert sorted(texts(page)) == before
    assert asked == []
    page.select_option("#project", "My first project")
    assert page.text_content("#favourite-count") == "0"
    page.click("#open-history")
    with page.expect_download() as got:
        page.click("#export-all")
    got.value.save_as(tmp_path / "playground.json")
    kept = json.loads((tmp_path / "playground.json").read_text())
    assert len(kept["favourites"]) == 2
    page.evaluate("localStorage.clear()")
    page.reload()
    page.wait_for_selector(".chip")
    page.click("#open-history")
    kept_wrong = kept | {"history": [{"when": "x", "prompt": "y", "lanes": [{"answers": [1]}]}]}
    (tmp_path / "other.json").write_text(json.dumps(kept_wrong))
    page.set_input_files("#import", tmp_path / "other.json")
    page.wait_for_function("() => document.getElementById('import-said').textContent")
    assert "not one that the playground saved" in page.text_content("#import-said")
    page.set_input_files("#import", tmp_path / "playground.json")
    page.wait_for_function(
        "() => document.getElementById('import-said').textContent.startsWith('Added 1 ')"
    )
    page.keyboard.press("Escape")
    page.select_option("#project", "Comic")
    assert page.text_content("#favourite-count") == "2"
    page.click("#open-history")
    page.click("#history-list button")
    assert sorted(texts(page)) == before


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing_serious_in_any_state(page: Any, size: dict[str, int]) -> None:
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs axe-playwright-python"
    )
    page.set_viewport_size(size)
    write(page, "Why is the sky blue?", n=6)
    page.evaluate("advanced.open = true; researchers.open = true")
    page.eval_on_selector_all("details.fold", "nodes => nodes.forEach(n => n.open = true)")
    states = [
        lambda: None,
        lambda: page.locator(".lane .continue").first.click(),
        lambda: page.locator(".lane .edit").nth(1).click(),
        lambda: page.click("#open-history"),
    ]
    for enter in states:
        enter()
        found = axe.Axe().run(page).response["violations"]
        serious = [v for v in found if v["impact"] in ("serious", "critical")]
        assert serious == [], [(v["id"], [n["target"] for n in v["nodes"]]) for v in serious]
