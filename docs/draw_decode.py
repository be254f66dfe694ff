"""Draws one decode of the bundled pair as a moving picture, for the page "How it works".

Run: ``python docs/draw_decode.py`` writes ``docs/images/decode.svg``. It moves by CSS alone, stands
still where a reader asks for less motion, and loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import torch

import baco
from baco.models.sides import Side
from baco.pair import Pair
from baco.prompts import conversation_of

PROMPT = "My comic has a wise wizard without a name. Suggest one."
GAMMA, SEED = 0.3, 7
PICTURE = Path(__file__).parent / "images" / "decode.svg"

SECONDS = 1.6
"""How long each token is shown."""

CANDIDATES = 3
BASE, ALIGNED = "#b35900", "#1a5f8a"


@dataclass(frozen=True)
class Step:
    """One token of the answer.

    Attributes:
        token: Its text.
        source: Who wrote it: ``base`` or ``aligned``.
        begins: Whether a word or a punctuation sign begins here, so that the router is asked.
        base: The base model's likeliest tokens with their probabilities.
        aligned: The aligned model's.
    """

    token: str
    source: str
    begins: bool
    base: list[tuple[str, float]]
    aligned: list[tuple[str, float]]


def likeliest(side: Side, ids: list[int]) -> list[list[tuple[str, float]]]:
    """Returns a side's likeliest tokens before each token of an answer."""
    cache = side.partner.new_cache()
    cache.add(1)
    prompt = list(side.encode(conversation_of(PROMPT)))
    cache.open([prompt[:-1]], [0])
    fed = torch.tensor([[prompt[-1], *ids[:-1]]])
    with torch.inference_mode():
        probs = cache.feed(fed, torch.tensor([fed.shape[1]]))[0].softmax(-1)
    return [
        [
            (side.token_bytes[int(i)].decode(errors="replace"), float(p))
            for p, i in zip(*row.topk(CANDIDATES), strict=True)
        ]
        for row in probs
    ]


def steps(pair: Pair) -> list[Step]:
    """Decodes one answer and returns what both models said at each token of it."""
    group = pair.generate(PROMPT, n=1, router=f"p-punc@{GAMMA}", seed=SEED)
    sample = group[0]
    shown = [likeliest(side, list(sample.token_ids)) for side in pair.sides]
    found = zip(sample.tokens, sample.sources, *shown, strict=False)
    return [
        Step(token, source, token[:1].isspace() or not token[:1].isalnum(), base, aligned)
        for token, source, base, aligned in found
        if token
    ]


def verdict(step: Step, first: bool) -> tuple[str, str]:
    """Returns what the router says at a token, in two lines."""
    top, sure = step.aligned[0][0], step.base[0][1]
    who = "the base model writes" if step.source == "base" else "the aligned model writes"
    if first:
        return "The first word is", "always the aligned model's."
    if not step.begins:
        return "Within a word", "nobody is asked."
    if not any(sign.isalnum() for sign in top):
        return "Punctuation comes next:", who + "."
    how = "unsure" if sure < GAMMA else "sure"
    return f"Base is {how} ({sure:.0%}, γ = {GAMMA:.0%}):", who + "."


def draw() -> str:
    """Decodes and returns the picture as SVG."""
    made = steps(baco.load("tiny"))
    return "\n".join([*_head(len(made)), *_still(), *_moving(made), "</svg>", ""])


def _head(count: int) -> Iterator[str]:
    total = (count + 2) * SECONDS
    yield (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 372" role="img" '
        'font-family="system-ui,sans-serif" font-size="15">'
    )
    yield "<title>Two models write one answer, token by token</title>"
    yield "<style>text{fill:#23282f}.soft{fill:#5c6670;font-size:13px}.s{opacity:0}"
    for index in range(count):
        start, end = (100 * SECONDS * (index + k) / total for k in (0, 1))
        shown = end if index < count - 1 else 98
        yield (
            f"@keyframes s{index}{{0%,{max(0, start - 0.01):.2f}%{{opacity:0}}"
            f"{start:.2f}%,{shown:.2f}%{{opacity:1}}"
            f"{min(shown + 0.01, 99.9):.2f}%,100%{{opacity:0}}}}"
            f"@keyframes w{index}{{0%,{max(0, start - 0.01):.2f}%{{opacity:0}}"
            f"{start + 40 * SECONDS / total:.2f}%,98%{{opacity:1}}99%,100%{{opacity:0}}}}"
            f".s{index}{{animation:s{index} {total:.1f}s infinite}}"
            f".w{index}{{animation:w{index} {total:.1f}s infinite}}"
        )
    yield "@media (prefers-reduced-motion:reduce){*{animation:none!important}"
    yield ".still{opacity:1}}</style>"
    yield '<rect width="760" height="372" rx="10" fill="#fbfaf7"/>'


def _still() -> Iterator[str]:
    """What does not move."""
    yield '<text x="24" y="34" class="soft">Prompt</text>'
    yield f'<text x="84" y="34">{escape(PROMPT)}</text>'
    for x, name, colour in ((24, "Base model", BASE), (506, "Aligned model", ALIGNED)):
        yield (
            f'<rect x="{x}" y="56" width="230" height="172" rx="8" fill="#fff" stroke="{colour}"/>'
            f'<text x="{x + 16}" y="82" font-weight="600" style="fill:{colour}">{name}</text>'
            f'<text x="{x + 16}" y="102" class="soft">its likeliest next tokens</text>'
        )
    yield '<text x="380" y="82" text-anchor="middle" font-weight="600">Router p-punc</text>'
    yield (
        '<rect x="24" y="250" width="712" height="98" rx="8" fill="#fff" stroke="#dcdfe3"/>'
        '<text x="40" y="274" class="soft">Answer</text>'
    )


def _moving(made: list[Step]) -> Iterator[str]:
    """What each token changes; the step with the base model's first word is the still picture."""
    still = next((i for i, step in enumerate(made) if step.source == "base"), 0)
    for index, step in enumerate(made):
        yield f'<g class="s s{index}{" still" if index == still else ""}">'
        for x, side in ((40, step.base), (522, step.aligned)):
            for row, (token, share) in enumerate(side):
                y = 122 + 34 * row
                yield (
                    f'<text x="{x}" y="{y + 4}">{escape(_visible(token))}</text>'
                    f'<text x="{x + 198}" y="{y + 4}" text-anchor="end" class="soft">'
                    f"{share:.0%}</text>"
                    f'<rect x="{x}" y="{y + 10}" width="{198 * share:.1f}" height="6" rx="3" '
                    f'fill="{BASE if x == 40 else ALIGNED}"/>'
                )
        colour = BASE if step.source == "base" else ALIGNED
        for row, line in enumerate(verdict(step, index == 0)):
            yield f'<text x="380" y="{130 + 22 * row}" text-anchor="middle">{escape(line)}</text>'
        tip, tail = (262, 300) if step.source == "base" else (498, 460)
        yield (
            f'<path d="M{tail} 186H{tip}m{8 if tip < tail else -8} -7l{-8 if tip < tail else 8} 7'
            f'l{8 if tip < tail else -8} 7" fill="none" stroke="{colour}" stroke-width="2.5"/></g>'
        )
    # Words stand where earlier ones of the same line end: each line is as many as letters fit.
    yield '<text y="312" font-size="21" font-weight="600">'
    written = 0
    for index, step in enumerate(made):
        new = written and written + len(step.token) > 62
        place = ' x="40"' if not written else ' x="40" dy="26"' if new else ""
        written = len(step.token) if new else written + len(step.token)
        colour = BASE if step.source == "base" else ALIGNED
        token = step.token.lstrip() if place else step.token
        yield (
            f'<tspan class="w{index}"{place} xml:space="preserve" style="fill:{colour}">'
            f"{escape(token)}</tspan>"
        )
    yield "</text>"


def _visible(token: str) -> str:
    """A token as a reader sees it."""
    return token.strip() or ("(end)" if not token else "␣")


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
