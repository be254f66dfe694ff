"""A LoRA pair's degree per request: answers of any α share a batch and equal those made alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

import baco
from baco.calibration import save
from baco.pair import Pair
from baco.serve import Settings, create_app

from .conftest import Client, made_up_curve

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


def test_diversity_means_a_control_here_too(pair: Pair) -> None:
    save(made_up_curve(pair, "interpolate"))
    with Client(create_app({"toy": pair}, Settings())) as client:
        for more in ({"diversity": 0.25}, {"model": "toy:0.25"}):
            asked = {**body(None, model="toy"), **more}
            answer = client.post("/v1/chat/completions", json=asked)
            assert answer.status_code == 200, answer.text
            wanted = client.post("/v1/chat/completions", json=body(0.75, model="toy")).json()
            said = answer.json()
            assert said["choices"][0]["message"] == wanted["choices"][0]["message"]
            assert said["baco"]["diversity"]["expected"] == 0.25
        answer = client.post("/v1/chat/completions", json=body(0.5, model="toy", diversity=0.5))
        assert answer.status_code == 400
        assert "both given" in answer.json()["error"]["message"]


def test_a_partially_aligned_base_is_served() -> None:
    moved = baco.load("tiny~0.3")
    with Client(create_app({"tiny~0.3": moved}, Settings())) as client:
        asked = {**body(None, model="tiny~0.3:0"), "method": "baco"}
        answer = client.post("/v1/chat/completions", json=asked)
        assert answer.status_code == 200, answer.text
        assert answer.json()["baco"]["pair"] == "tiny~0.3"
        asked = {**body(None, model="tiny~0.3"), "method": "base"}
        made = client.post("/v1/chat/completions", json=asked).json()["choices"]
        group = moved.generate(ASK, 2, method="base", seed=4, max_new_tokens=16)
        assert [choice["message"]["content"] for choice in made] == [s.text for s in group]
        assert "tiny~0.3" in [m["id"] for m in client.get("/v1/models").json()["data"]]


def test_wrong_controls_are_named(pair: Pair) -> None:
    with Client(create_app({"toy": pair}, Settings())) as client:
        answer = client.post("/v1/chat/completions", json=body(1.5, model="toy"))
        assert answer.status_code == 400
        assert "is out of range for the method 'interpolate'" in answer.json()["error"]["message"]
        assert answer.json()["error"]["param"] == "control"
        answer = client.post("/v1/chat/completions", json=body("high", model="toy"))
        assert answer.status_code == 400
