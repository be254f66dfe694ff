"""A judge on this machine: the bundled aligned model, which knows no JSON, and a scripted one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import baco.metrics
import baco.tiny
from baco.errors import BacoError, InputError
from baco.metrics import rubrics
from baco.metrics.discourse import arousal_div, tp_div
from baco.metrics.local import LocalJudge

ALIGNED = str(Path(baco.tiny.__file__).parent / "weights" / "aligned")
STORY = "Ann has a shop. It burns. She leaves. She sails. She loses all. She wins."
GROUP = {"prompt": "Go on.", "generations": [STORY, STORY.replace(". ", "! ", 2)]}


class Scripted:
    """A model that writes what it is told to."""

    def __init__(self, tokenizer: Any, *replies: str) -> None:
        self.replies, self.tokenizer = list(replies), tokenizer
        self.device = torch.device("cpu")
        self.config = SimpleNamespace(model_type="llama", max_position_embeddings=4096)
        self.asked: list[str] = []
        self.drawn: list[bool] = []

    def generate(self, ids: torch.Tensor, **options: Any) -> torch.Tensor:
        self.asked.append(self.tokenizer.decode(ids[0]))
        self.drawn.append(options["do_sample"])
        words = self.tokenizer(self.replies.pop(0), add_special_tokens=False)["input_ids"]
        return torch.cat([ids, torch.tensor([words])], dim=1)


def scripted(*replies: str) -> tuple[LocalJudge, Scripted]:
    judge = LocalJudge(ALIGNED, retries=2)
    judge._model = Scripted(judge._tokenizer, *replies)
    judge._limit = 4096
    return judge, judge._model


def points(*numbers: int) -> str:
    return json.dumps(dict(zip(rubrics.TURNING_POINTS, numbers, strict=True)))


def test_turning_points_are_read_strictly_and_asked_again(tmp_path: Path) -> None:
    judge, model = scripted(
        "I think it is sentence one.",
        points(2, 1, 3, 4, 5),
        f"Here: {points(1, 2, 3, 5, 6)}",
        points(1, 2, 2, 4, 6),
    )
    scores = baco.metrics.score([GROUP], "tp_div", judge=judge, cache=tmp_path)
    expected = tp_div([[x / 6 for x in p] for p in ((1, 2, 3, 5, 6), (1, 2, 2, 4, 6))])
    assert scores.column("tp_div") == pytest.approx([expected])
    assert model.drawn == [False, True, True, False]
    assert "6. She wins." in model.asked[0]
    assert ALIGNED in scores.models["tp_div"]
    again = baco.metrics.score([GROUP], "tp_div", judge=judge, cache=tmp_path)
    assert again.column("tp_div") == scores.column("tp_div")
    assert model.replies == []
    assert judge.questions == 4


def test_arousal(tmp_path: Path) -> None:
    rows = ([0.1, 0.9, 0.4, 0.4, 0.8, 0.2], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    judge, _ = scripted(*(json.dumps({"arousal": row}) for row in rows))
    scores = baco.metrics.score([GROUP], "arousal_div", judge=judge, cache=tmp_path)
    assert scores.column("arousal_div") == pytest.approx([arousal_div(rows)])


def test_a_model_that_knows_no_json_gives_no_annotation() -> None:
    judge = LocalJudge(ALIGNED, retries=1)
    scores = baco.metrics.score([GROUP], "reward@judge", judge=judge, cache=False)
    assert math.isnan(scores.column("reward@judge")[0])
    assert judge.questions == 4
    assert judge.cost == "4 questions to a model on this machine"
    judge.close()


def test_the_same_reply_twice() -> None:
    judge = LocalJudge(ALIGNED, retries=0)
    messages = [{"role": "user", "content": "Name a city in Italy for my quiz."}]
    before = torch.random.get_rng_state()
    drawn = [judge._reply(messages, turn=turn) for turn in (0, 1, 1, 2)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert drawn[0].strip()
    assert drawn[1] == drawn[2]


def test_a_story_that_does_not_fit(tmp_path: Path) -> None:
    judge, model = scripted()
    judge._limit = 100
    scores = baco.metrics.score([GROUP], "tp_div", judge=judge, cache=False)
    assert math.isnan(scores.column("tp_div")[0])
    assert model.asked == []


def test_judges_that_cannot_be() -> None:
    with pytest.raises(InputError, match="no model name"):
        LocalJudge("")
    with pytest.raises(InputError, match="negative"):
        LocalJudge(ALIGNED, retries=-1)
    with pytest.raises(BacoError, match="nowhere"):
        LocalJudge("./nowhere")
