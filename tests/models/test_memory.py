"""Memory is predicted before a run, and bounds it."""

from __future__ import annotations

import dataclasses
import gc
import logging

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import baco
from baco.engine import Engine, Request, Warp
from baco.engine.noise import row_key
from baco.models import memory
from baco.models.hf import HFPartner
from baco.models.memory import Workload, need_of
from baco.routers import parse
from support.engines import fake_pair, random_pair

CPU = torch.device("cpu")

TOLERANCE = 1.6
"""A prediction may be this much more than what is measured, and never less. (Row lengths, slots
that grow in blocks, and what only some moments need make up the difference.)"""


def never_ending(partner: HFPartner) -> HFPartner:
    """The same model, whose answers all run to their limit."""
    if not hasattr(never_ending, "vocabularies"):
        never_ending.vocabularies = {}  # type: ignore[attr-defined]
    known = never_ending.vocabularies  # type: ignore[attr-defined]
    old = partner.vocabulary
    if id(old) not in known:
        nothing = torch.zeros_like(old.is_end)
        known[id(old)] = dataclasses.replace(old, is_end=nothing, allowed=old.allowed & ~old.is_end)
    return HFPartner(partner.model, known[id(old)])


def peak(sides: tuple[HFPartner, HFPartner], job: Workload, spec: str) -> int:
    """Bytes that a run allocates at its worst moment, on top of the weights."""
    requests = [
        Request(tuple(range(5, 5 + base)), tuple(range(5, 5 + aligned)), parse(spec),
                row_key(0, "p", i), Warp() if job.filtered else Warp(top_p=1),
                max_new_tokens=job.max_new_tokens)
        for i in range(job.rows)
        for base, aligned in [job.prompts[i % len(job.prompts)]]
    ]  # fmt: skip
    gc.collect()  # what earlier tests left would be freed meanwhile, and count against the run
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        engine = Engine(*sides, lookahead=job.lookahead, draft=job.draft)
        for request in requests:
            engine.submit(request)
        while not engine.idle:
            engine.step()
    now = most = 0
    for event in profiler.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    assert engine.stats.tokens == job.rows * job.max_new_tokens
    return most


@pytest.mark.filterwarnings("ignore::UserWarning")  # the profiler's, about what it cannot see
@pytest.mark.parametrize("lookahead", ["auto", "off"])
@pytest.mark.parametrize(
    ("prompts", "rows", "limit"),
    [([(20, 30)], 8, 40), ([(20, 30), (90, 70), (8, 9)], 6, 60)],
)
def test_what_is_predicted_is_what_is_used(prompts, rows, limit, lookahead):
    pair = baco.load("tiny")
    sides = (never_ending(pair.base), never_ending(pair.aligned))
    job = Workload(prompts, rows, limit, lookahead, lags=False)
    peak(sides, Workload(prompts, 1, 40, lookahead), "pr@0.5")  # tables that are made once
    used = peak(sides, job, "pr@0.5")
    need = need_of(sides, job)
    assert need is not None
    predicted = need.at(rows, weights=False)[CPU]
    assert used <= predicted <= TOLERANCE * used


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_without_filters():
    pair = baco.load("tiny")
    sides = (never_ending(pair.base), never_ending(pair.aligned))
    job = Workload([(20, 30)], 6, 40, "auto", lags=False, filtered=False)
    peak(sides, job, "pr@0.5")
    used = peak(sides, job, "pr@0.5")
    need = need_of(sides, job)
    assert need is not None
    assert used <= need.at(6, weights=False)[CPU] <= 2 * used


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_architectures(architecture):
    sides = tuple(never_ending(side) for side in random_pair(architecture, torch.float32))
    # Random models agree so seldom that long drafts would not be made.
    job = Workload([(12, 15)], 8, 50, 2, lags=False)
    peak(sides, job, "pr@0.5")
    used = peak(sides, job, "pr@0.5")
    need = need_of(sides, job)
    assert need is not None
    assert used <= need.at(8, weights=False)[CPU] <= 2 * used


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_draft_model_counts():
    pair = baco.load("tiny")
    sides = (never_ending(pair.base), never_ending(pair.aligned))
    small = baco.load("tiny-sft").aligned
    assert isinstance(small, HFPartner)
    draft = HFPartner(small.model, sides[1].vocabulary)
    draft.parameters = 1  # so that it is always asked, for as far as may be
    job = Workload([(20, 30)], 6, 40, "auto", lags=False, draft=draft)
    peak(sides, job, "pr@0.5")
    used = peak(sides, job, "pr@0.5")
    need, without = need_of(sides, job), need_of(sides, job._replace(draft=None))
    assert need is not None
    assert without is not None
    assert without.at(6, weights=False)[CPU] < need.at(6, weights=False)[CPU]
    assert used <= need.at(6, weights=False)[CPU] <= TOLERANCE * used
    held = sum(p.numel() * p.element_size() for p in small.model.parameters())
    assert need.weights == pytest.approx(without.weights + held, rel=0.01)
    more = need.at(6)[CPU] - need.at(6, weights=False)[CPU]
    assert more == need.weights


@pytest.mark.parametrize("name", ["tiny", "tiny-lora"])
def test_shapes_alone_are_enough(name):
    whole, hollow = baco.load(name), baco.load(name, shapes_only=True)
    job = Workload([(20, 30)], 10, 100)
    needs = [need_of((pair.base, pair.aligned), job) for pair in (whole, hollow)]
    assert hollow.base.model.device == torch.device("meta")
    assert needs[0].at(10) == needs[1].at(10)
    held = {id(p): p.numel() * p.element_size() for p in whole.base.model.parameters()}
    if name == "tiny":
        held |= {id(p): p.numel() * p.element_size() for p in whole.aligned.model.parameters()}
    assert sum(held.values()) <= needs[1].weights <= 1.01 * sum(held.values())


def test_quantised_weights_are_smaller():
    full = baco.load("tiny", shapes_only=True, dtype="bfloat16")
    half = baco.load("tiny", shapes_only=True, dtype="bfloat16", load_in_8bit=True)
    job = Workload([(20, 30)], 10, 100)
    sizes = [need_of((p.base, p.aligned), job).weights for p in (full, half)]
    assert sizes[0] / 2 < sizes[1] < sizes[0]


def test_how_many_rows_fit():
    pair = baco.load("tiny", shapes_only=True)
    need = need_of((pair.base, pair.aligned), Workload([(20, 30)], 100, 100))
    for rows in (1, 7, 99):
        exact = int(need.at(rows, weights=False)[CPU] / memory._SPARE) + 1
        assert need.rows_within({CPU: exact}, 100) == rows
    assert need.rows_within({CPU: 0}, 100) == 0
    assert need.rows_within({}, 100) == 100
    assert need.rows_within({CPU: 1 << 50}, 100) == 100


def test_two_devices_are_counted_apart():
    pair = baco.load("tiny", shapes_only=True)
    far = torch.device("cuda:1")
    pair.base.place = far
    need = need_of((pair.base, pair.aligned), Workload([(20, 30)], 10, 100))
    here = need.at(10)
    assert set(here) == {CPU, far}
    alone = need_of((pair.base, pair.base), Workload([(20, 30)], 10, 100))
    assert here[far] < alone.at(10)[far] + alone.at(10)[CPU]
    assert need.rows_within({far: here[far] // 2}, 10, weights=True) < 10


def test_a_batch_that_would_not_fit_is_split(random_pair, monkeypatch, caplog):
    ask = {"max_new_tokens": 20, "router": "p@0.5"}
    whole = random_pair.generate("Name a fruit.", n=8, **ask)
    lengths = tuple(len(ids) for ids in random_pair.prompt_ids(whole[0].conversation))
    sides = (random_pair.base, random_pair.aligned)
    need = need_of(sides, Workload([lengths], 8, 20))
    room = int(need.at(3, weights=False)[CPU] / memory._SPARE) + 1
    engines = []
    real = Engine.__init__

    def watched(self, *args, **kwargs):
        engines.append(kwargs["max_rows"])
        real(self, *args, **kwargs)

    monkeypatch.setattr(Engine, "__init__", watched)
    for free, rows in ((room, 3), (10, 1)):
        monkeypatch.setattr(memory, "available_memory", lambda _, free=free: free)
        with caplog.at_level(logging.WARNING, "baco"):
            assert random_pair.generate("Name a fruit.", n=8, **ask) == whole
        assert engines.pop() == rows
    assert "memory is enough for 3 samples at a time, of 8" in caplog.text
    assert "hardly one sample" in caplog.text


def test_partners_of_unknown_size_are_not_bounded():
    sides = fake_pair()
    assert need_of(sides, Workload([(2, 2)], 4, 10)) is None
    assert memory.rows_that_fit(sides, Workload([(2, 2)], 4, 10), 256) == 256


def test_available_memory_is_asked_of_the_system():
    size = memory.available_memory(CPU)
    assert size is None or 1e6 < size < 1e15


def test_the_limit_of_a_container_counts(monkeypatch, tmp_path):
    stat = "anon 5\ninactive_file 100\n"
    for name, text in (("max", "1000000"), ("current", "700000"), ("stat", stat)):
        (tmp_path / f"memory.{name}").write_text(text)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available_memory(CPU) == 300_100
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_memory(CPU) != 300_100
