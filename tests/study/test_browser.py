"""The page in a real browser: mouse, reload and second device, phone, keyboard, no network."""

import asyncio
import json
import random
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("playwright")
from playwright.async_api import async_playwright, expect

from baco.study.protocol import DIVERSITY, SIDES, TIE
from baco.study.store import Study
from support.browser import CHROMIUM, FLAGS

from .example import make_study
from .serving import server

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")

PROMPTS = 2
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {
    "viewport": {"width": 375, "height": 740},
    "is_mobile": True,
    "has_touch": True,
    "color_scheme": "dark",
}
WAIT = 300_000
expect.set_options(timeout=WAIT)


@asynccontextmanager
async def browser():
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        await chromium.close()


class Annotator:
    """Somebody with a link, a device, and a mind made up in advance."""

    def __init__(self, chromium, address, token, number, device=DESKTOP):
        self.chromium, self.device = chromium, device
        self.address, self.token = address, token
        rng = random.Random(number)
        self.plan = {}
        for screen in range(1, PROMPTS + 1):
            for item in range(1, 7):
                self.plan[screen, "quality", item] = rng.randint(1, 5)
            for question in DIVERSITY:
                self.plan[screen, question, 1] = rng.choice([*SIDES, TIE])
            self.plan[screen, "creativity", 1] = rng.randint(1, 6)
        self.seen, self.requests, self.errors = [], [], []

    async def open(self):
        context = await self.chromium.new_context(**self.device)
        self.page = await context.new_page()
        self.page.set_default_timeout(WAIT)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("response", lambda response: self.seen.append(response))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
        self.texts = getattr(self, "texts", [])
        await self.page.goto(f"{self.address}/#{self.token}")

    async def begin(self):
        page = self.page
        begin = page.get_by_role("button", name="Begin")
        await expect(begin).to_be_disabled()
        await page.get_by_label("I have read the instructions").check()
        await expect(begin).to_be_disabled()
        await page.get_by_label("I agree to take part").check()
        await begin.click()
        await self.at(1, 1)

    async def at(self, screen, step):
        """Waits until the page shows this prompt and step."""
        await expect(self.page).to_have_title(f"Prompt {screen}, step {step}: Ideas")
        self.texts.append(await self.page.content())

    async def press(self, name):
        button = self.page.get_by_role("button", name=name, exact=True)
        await (button.tap() if "has_touch" in self.device else button.click())

    async def choose(self, label):
        radio = self.page.get_by_role("radio", name=label, exact=True)
        await (radio.tap() if "has_touch" in self.device else radio.click())
        await expect(radio).to_be_checked()

    async def rate(self, screen, item):
        scale = {1: "Poor", 2: "Weak", 3: "Fair", 4: "Good", 5: "Excellent"}
        value = self.plan[screen, "quality", item]
        group = self.page.get_by_role("group", name=f"Rating of response {item}", exact=True)
        radio = group.get_by_role("radio", name=f"{value}, {scale[value]}", exact=True)
        await (radio.tap() if "has_touch" in self.device else radio.click())
        await expect(radio).to_be_checked()

    async def compare(self, screen):
        names = {"A": "Group A", "B": "Group B", TIE: "About the same"}
        for question in DIVERSITY:
            group = self.page.get_by_role("group", name=question.capitalize())
            name = names[self.plan[screen, question, 1]]
            radio = group.get_by_role("radio", name=name, exact=True)
            await (radio.tap() if "has_touch" in self.device else radio.click())
            await expect(radio).to_be_checked()

    async def pick(self, screen):
        place = self.plan[screen, "creativity", 1]
        await self.choose(f"Response {place} is the most creative")

    async def finish(self, screen, *, first=1):
        """Does one prompt from a given response on."""
        for item in range(first, 7):
            await self.rate(screen, item)
        await self.press("Continue")
        await self.at(screen, 2)
        await self.compare(screen)
        await self.press("Continue")
        await self.at(screen, 3)
        await self.pick(screen)
        await self.press("Finish" if screen == PROMPTS else "Next prompt")

    async def thanks(self):
        done = self.page.get_by_role("heading", name="Thank you. You have finished.")
        await expect(done).to_be_visible(timeout=WAIT)
        await expect(self.page.get_by_text("100% done")).to_be_visible()


async def by_mouse(person):
    await person.open()
    await person.begin()
    for screen in range(1, PROMPTS + 1):
        await person.finish(screen)
        if screen < PROMPTS:
            await person.at(screen + 1, 1)
    await person.thanks()


async def with_a_reload_and_a_second_device(person):
    await person.open()
    await person.begin()
    for item in (1, 2, 3):
        await person.rate(1, item)
    await person.page.reload()  # at once: the third click may still be on its way
    await person.at(1, 1)
    for item in (1, 2, 3):
        group = person.page.get_by_role("group", name=f"Rating of response {item}", exact=True)
        await expect(group.locator("input:checked")).to_have_value(
            str(person.plan[1, "quality", item])
        )
    await person.finish(1, first=4)
    await person.at(2, 1)
    await person.page.context.close()
    await person.open()
    await person.at(2, 1)
    await person.finish(2)
    await person.thanks()


async def on_a_phone(person):
    await person.open()
    await person.begin()
    for screen in range(1, PROMPTS + 1):
        for item in range(1, 7):
            await person.rate(screen, item)
        assert await fits(person.page)
        await person.press("Continue")
        await person.at(screen, 2)
        assert await fits(person.page)
        await person.compare(screen)
        await person.press("Continue")
        await person.at(screen, 3)
        await person.pick(screen)
        assert await fits(person.page)
        await person.press("Finish" if screen == PROMPTS else "Next prompt")
    await person.thanks()


async def fits(page):
    """Nothing sticks out to the right, and what one taps is large enough for a finger."""
    return await page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth
            && [...document.querySelectorAll('.choice, .pick, .foot button')].every((e) => {
                 const box = e.getBoundingClientRect();
                 return box.width >= 40 && box.height >= 40 && box.right <= innerWidth; })"""
    )


async def by_keyboard(person):
    await person.open()
    page, keys = person.page, person.page.keyboard
    await page.get_by_role("button", name="Begin").wait_for()
    for name, key in (("read", "Space"), ("agree", "Space"), ("Begin", "Enter")):
        for _ in range(20):
            await keys.press("Tab")
            here = await page.evaluate(
                "() => document.activeElement.id || document.activeElement.textContent"
            )
            if here == name:
                break
        assert here == name
        await keys.press(key)
    for screen in range(1, PROMPTS + 1):
        await person.at(screen, 1)
        for item in range(1, 7):
            await keys.press(str(person.plan[screen, "quality", item]))
        await keys.press("Enter")
        await person.at(screen, 2)
        for question in DIVERSITY:
            await keys.press({"A": "a", "B": "b", TIE: "t"}[person.plan[screen, question, 1]])
        await keys.press("Enter")
        await person.at(screen, 3)
        await keys.press(str(person.plan[screen, "creativity", 1]))
        await keys.press("Enter")
    await person.thanks()


def test_four_annotators_at_once(tmp_path):
    study = make_study(tmp_path, prompts=PROMPTS)
    tokens = [annotator.token for annotator in study.annotators()]
    ways = [by_mouse, with_a_reload_and_a_second_device, on_a_phone, by_keyboard]
    devices = [DESKTOP, DESKTOP, PHONE, DESKTOP]
    people = []

    async def run(address):
        async with browser() as chromium:
            for number, device in enumerate(devices):
                people.append(Annotator(chromium, address, tokens[number], number, device))
            await asyncio.gather(*(way(who) for way, who in zip(ways, people, strict=True)))
            for person in people:
                bodies = [r for r in person.seen if "/api/" in r.url and r.ok]
                for body in bodies:
                    try:
                        person.texts.append(await body.text())
                    except Exception:  # the body of a page that was reloaded is gone
                        continue

    with server(study.path) as (_, address):
        asyncio.run(run(address))

    for number, person in enumerate(people):
        assert person.errors == []
        assert {url.split("/")[2] for url in person.requests} == {address.split("/")[2]}
        votes_land_exactly_once(study, number, person.plan)
        assert study.active_ms(number) > 0
        seen = "\n".join(person.texts)
        assert len(person.texts) > 20
        for secret in ("plainwriter", "variedwriter", "method", *tokens):
            assert secret not in seen


def votes_land_exactly_once(study, number, plan):
    """The store holds what was planned, one click for each answer."""
    screens = {screen.number: screen for screen in study.screens(number)}
    expected = {}
    for (at, question, item), value in plan.items():
        screen = screens[at]
        if question == "quality":
            expected[screen.prompt, question, screen.positions[item - 1]] = value
        elif question == "creativity":
            expected[screen.prompt, question, 0] = screen.positions[value - 1]
        else:
            side = None if value == TIE else screen.sides[0][SIDES.index(value)]
            expected[screen.prompt, question, 0] = side
    held = {(v.prompt, v.question, v.item): v.choice for v in study.votes(number)}
    assert held == expected
    assert len(study.clicks(number)) == len(plan)


def test_without_network_clicks_wait_and_land_once(tmp_path):
    study = make_study(tmp_path, prompts=PROMPTS)
    token = study.annotators()[0].token

    async def run(address):
        async with browser() as chromium:
            person = Annotator(chromium, address, token, 0)
            await person.open()
            await person.begin()
            page = person.page
            await page.context.set_offline(True)
            await person.rate(1, 1)
            await person.rate(1, 2)
            await expect(page.get_by_text("No connection: 2 clicks kept here")).to_be_visible()
            assert study.votes() == []
            await page.context.set_offline(False)
            await expect(page.locator("#saved-text")).to_have_text("Saved")
            assert len(study.clicks(0)) == len(study.votes()) == 2
            # A changed mind is one more click; the last one holds.
            person.plan[1, "quality", 1] = person.plan[1, "quality", 1] % 5 + 1
            await person.rate(1, 1)
            await person.rate(1, 3)
            await expect(page.locator("#saved-text")).to_have_text("Saved")
            assert person.errors == []
            return person.plan

    with server(study.path) as (_, address):
        plan = asyncio.run(run(address))
    screen = study.screen(0, 1)
    held = {v.item: v.choice for v in study.votes()}
    assert held == {screen.positions[i - 1]: plan[1, "quality", i] for i in (1, 2, 3)}
    assert len(study.clicks(0)) == 4


def test_help_comments_own_data_and_leaving(tmp_path):
    study = make_study(tmp_path, prompts=PROMPTS)
    token = study.annotators()[0].token

    async def run(address):
        async with browser() as chromium:
            stranger = Annotator(chromium, address, "x" * 43, 1)
            await stranger.open()
            await expect(stranger.page.get_by_text("This link is not valid")).to_be_visible()

            person = Annotator(chromium, address, token, 0)
            await person.open()
            await person.begin()
            page = person.page
            await page.keyboard.press("?")
            await expect(page.get_by_role("dialog", name="Help")).to_be_visible()
            await page.keyboard.press("Escape")
            await person.rate(1, 1)
            await page.locator("summary").click()
            await page.get_by_role("textbox").fill("2 <i>close</i> calls")
            await expect(page.get_by_text("Comment saved")).to_be_visible()
            assert study.comments() == [(0, study.screen(0, 1).prompt, "2 <i>close</i> calls")]
            await page.get_by_role("button", name="All prompts").click()
            await page.get_by_role("button", name="Prompt 2, open").click()
            await person.at(2, 1)
            await page.get_by_role("button", name="My data").click()
            async with page.expect_download() as waiting:
                await page.get_by_role("button", name="Download my data").click()
            path = await (await waiting.value).path()
            data = json.loads(path.read_text())
            assert len(data["clicks"]) == 1
            assert data["comments"][0]["text"] == "2 <i>close</i> calls"
            leave = page.get_by_role("button", name="Delete my data and leave")
            await expect(leave).to_be_disabled()
            await page.get_by_label("I want everything to be deleted").check()
            await leave.click()
            await expect(page.get_by_text("Your data has been deleted")).to_be_visible()
            await page.reload()
            await expect(page.get_by_text("This link is not valid")).to_be_visible()
            assert person.errors == []

    with server(study.path) as (_, address):
        asyncio.run(run(address))
    again = Study.open(study.path)
    assert again.votes() == again.comments() == []
