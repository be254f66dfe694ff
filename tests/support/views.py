"""Views of one row for routers' tests, from a few words' weights."""

from __future__ import annotations

import torch

from baco.engine import Warp
from baco.engine.router import View
from baco.engine.scores import Context, score
from support.engines import WORDS, words_vocabulary

__all__ = ["COMMA", "HALF", "SURE", "THE", "VOCABULARY", "WORDS", "view"]

VOCABULARY = words_vocabulary()


def view(base: dict[str, float], aligned: dict[str, float], t: int = 3) -> View:
    def scores(weights: dict[str, float]):  # type: ignore[no-untyped-def]
        p = torch.full((1, len(WORDS)), 1e-12, dtype=torch.float64)
        for word, weight in weights.items():
            p[0, WORDS.index(word)] = weight
        return score((p / p.sum()).log(), Warp(top_p=1), VOCABULARY)

    one = torch.tensor([1])
    return View(
        scores(base), scores(aligned), VOCABULARY,
        Context(torch.tensor([77]), one * t, one * 3, one * 0), one.bool(),
    )  # fmt: skip


HALF = {" cat": 0.5, " dog": 0.5}
SURE = {" cat": 1.0}
COMMA = {",": 0.9, " dog": 0.1}
THE = {" the": 0.9, " dog": 0.1}
