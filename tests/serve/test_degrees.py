"""A LoRA pair's degree per request: answers of any α share a batch and equal those made alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

import baco
from baco.pair import Pair
from baco.serve import Settings, create_app

from .conftest import Client

pytest.importorskip("peft", reason="needs the extra 'lora'")

ASK = "Suggest a summer trip destination."


def body(control: object, **more: object) -> dict[str, object]:
    return {
        "messages": [{"role": "user", "content": ASK}],
        "method": "interpolate", "control": control, "n": 2, "seed": 4, "max_tokens": 16, **more,
    }  # fmt: skip


def test_two_degrees_in_one_batch_equal_each_alone(pair: Pair) -> None:
    lora = baco.load("tiny-lora", dtype="float64")
    app = create_app({"lora": lora, "toy": pair}, Settings())
    alphas = [0.0, 0.3, 0.7, 1.0]
    with Client(app) as client:

        def ask(alpha: float) -> list[str]:
            answer = client.post("/v1/chat/completions", json=body(alpha, model="lora"))
            assert answer.status_code == 200, answer.text
            return [choice["message"]["content"] for choice in answer.json()["choices"]]

        alone = [ask(alpha) for alpha in alphas]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(ask, alphas)) == alone
        for alpha, made in zip(alphas, alone, strict=True):
            group = lora.generate(
                ASK, 2, method="interpolate", control=alpha, seed=4, max_new_tokens=16
            )
            assert [sample.text for sample in group] == made
        # Two checkpoints: their mixtures wait for each other, and come out right.
        for control in (0.3, 0.5, 0.7):
            answer = client.post("/v1/chat/completions", json=body(control, model="toy"))
            made = [choice["message"]["content"] for choice in answer.json()["choices"]]
            wanted = pair.generate(
                ASK, 2, method="interpolate", control=control, seed=4, max_new_tokens=16
            )
            assert made == [sample.text for sample in wanted]


def test_wrong_controls_are_named(pair: Pair) -> None:
    with Client(create_app({"toy": pair}, Settings())) as client:
        answer = client.post("/v1/chat/completions", json=body(1.5, model="toy"))
        assert answer.status_code == 400
        assert "is out of range for the method 'interpolate'" in answer.json()["error"]["message"]
        assert answer.json()["error"]["param"] == "control"
        answer = client.post("/v1/chat/completions", json=body("high", model="toy"))
        assert answer.status_code == 400
