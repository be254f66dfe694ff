"""What a user of the Python API may write: checked by mypy --strict in `tests/test_public.py`."""

from __future__ import annotations

import torch

import baco


def unsure(view: baco.View, gamma: float = 0.5) -> torch.Tensor:
    """Base speaks where the aligned model is less than γ sure."""
    return view.aligned.top_prob < gamma


def main() -> None:
    """Asks for a group, many groups, a stream."""
    pair: baco.Pair = baco.load("tiny")
    mine: baco.Router = baco.router(unsure, name="unsure", reads=["aligned"], gamma=0.3)
    group: baco.Group = pair.generate("Name a city.", n=2, router=mine, seed=1, top_p=0.9)
    texts: list[str] = group.texts
    groups: list[baco.Group] = pair.generate(["Name a city.", "Name a river."], temperature=0.5)
    row: dict[str, object] = groups[0].to_dict()
    token: baco.Token
    for token in pair.stream("Name a city.", max_new_tokens=8):
        print(token.text, token.source)
    print(texts, row)
