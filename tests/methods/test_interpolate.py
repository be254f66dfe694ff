"""Interpolated weights: ends and middle, the shelf, pairs that do not fit, base weights."""

from __future__ import annotations

import copy
import json
import re
from types import SimpleNamespace

import pytest
import torch

import baco
from baco.cli import run
from baco.errors import BacoError, InputError, UnsupportedError
from baco.methods.base import Task
from baco.methods.settings import make_setting
from baco.models import interpolate
from baco.models.interpolate import SHELF, check_weights, mix, mix_base, template_of
from baco.models.known import split_weights
from baco.pair import Pair
from baco.prompts import conversation_of
from conftest import save_model, save_tokenizer
from support.engines import fake_pair

ASK = "What is the capital of France?"
OPTIONS = {"n": 3, "max_new_tokens": 16, "seed": 2}


def texts(pair: Pair, **options) -> list[tuple[int, ...]]:
    return [s.token_ids for s in pair.generate(ASK, **OPTIONS, **options)]


@pytest.fixture
def pair(random_folders) -> Pair:
    """A pair of its own: its shelf is looked at."""
    return Pair(*random_folders, device="cpu")


def test_at_its_ends_it_is_the_single_models(pair):
    base, aligned = pair.sides
    assert texts(pair, method="interpolate", control=1) == texts(pair, method="aligned")
    # Of the base model: with the aligned model's chat template, which the one model gets.
    chat = Pair.from_sides(
        "chat", base, interpolate.replace(aligned, partner=base.partner, label="base")
    )
    assert texts(pair, method="interpolate", control=0) == texts(chat, method="aligned")
    assert texts(pair, method="interpolate", control=0) != texts(pair, method="base")
    assert not pair.shelf.places
    between = texts(pair, method="interpolate", control=0.5)
    assert between not in (texts(pair, method="aligned"), texts(chat, method="aligned"))


def test_between_them_it_is_the_model_of_the_mean_weights(pair):
    held = pair.generate(ASK, method="interpolate", control=0.3, **OPTIONS)
    assert held.forwards_per_token == pytest.approx(1, abs=0.3)
    assert held.cost.base_passes == 0
    model = copy.deepcopy(pair.aligned.model)
    mine, theirs = (side.partner.model.state_dict() for side in pair.sides)
    model.load_state_dict({k: 0.7 * mine[k] + 0.3 * theirs[k] for k in mine})
    ids = [5, 9, 11, 40]
    wanted = model(input_ids=torch.tensor([ids])).logits[0, -1]
    (place,) = pair.shelf.places
    torch.testing.assert_close(place.side.partner.logits(ids), wanted.detach())


def test_the_shelf_is_bounded_and_remakes_what_it_lost(pair):
    first = {a: texts(pair, method="interpolate", control=a) for a in (0.2, 0.4, 0.6, 0.8)}
    assert len(pair.shelf.places) == SHELF
    assert {place.alpha for place in pair.shelf.places} == {0.6, 0.8}
    assert all(place.users == 0 for place in pair.shelf.places)
    for alpha, before in first.items():
        assert texts(pair, method="interpolate", control=alpha) == before
    assert len(pair.shelf.places) == SHELF


def test_weights_in_use_are_never_changed(pair):
    tasks = [Task(conversation_of(ASK), i) for i in range(2)]
    open_ = []
    for alpha in (0.2, 0.4):
        setting = make_setting(method="interpolate", control=alpha, max_new_tokens=12)
        updates = pair.run(tasks, setting)
        next(updates)
        open_.append(updates)
    with pytest.raises(InputError, match="models of 2 other mixtures are in use"):
        pair.generate(ASK, method="interpolate", control=0.6, **OPTIONS)
    texts(pair, method="interpolate", control=0.4)  # the same weights may be used by two
    for updates in open_:
        updates.close()
    texts(pair, method="interpolate", control=0.6)


def test_in_a_session_a_run_waits_for_weights(pair):
    from baco.methods.running import make_together

    def runs(alphas):
        tasks = [Task(conversation_of(ASK), i) for i in range(2)]
        return [
            (tasks, make_setting(method="interpolate", control=a, max_new_tokens=12))
            for a in alphas
        ]

    alphas = (0.2, 0.4, 0.6, 0.8)
    together = make_together(pair, runs(alphas), 8)
    alone = [make_together(pair, runs([a]), 8)[0] for a in alphas]
    assert [[s.token_ids for s in made] for made in together] == [
        [s.token_ids for s in made] for made in alone
    ]


def small(**changes):
    """A tiny Llama of random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    fields = {
        "vocab_size": 40, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.5,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**{**fields, **changes})).eval()


def test_tied_and_padded_embeddings_and_float_types():
    tied, wide = small(tie_word_embeddings=True), small(vocab_size=48)
    wide = wide.to(torch.bfloat16)
    check_weights(tied, wide)
    pattern = template_of(tied, wide)
    assert pattern is wide  # a tied model has no room for two matrices
    made = copy.deepcopy(pattern)
    mix(made, tied, wide, 0.25)
    head = 0.75 * tied.lm_head.weight + 0.25 * wide.lm_head.weight[:40].float()
    torch.testing.assert_close(made.lm_head.weight[:40], head.to(torch.bfloat16))
    assert torch.equal(made.lm_head.weight[40:], wide.lm_head.weight[40:])
    table = 0.75 * tied.lm_head.weight + 0.25 * wide.model.embed_tokens.weight[:40].float()
    torch.testing.assert_close(made.model.embed_tokens.weight[:40], table.to(torch.bfloat16))
    assert made.dtype == torch.bfloat16
    # Both tied: one matrix, mixed once.
    other = small(tie_word_embeddings=True)
    both = copy.deepcopy(other)
    mix(both, tied, other, 0.5)
    wanted = (tied.lm_head.weight + other.lm_head.weight) / 2
    torch.testing.assert_close(both.lm_head.weight, wanted)
    assert both.lm_head.weight is both.model.embed_tokens.weight


def test_in_place_into_a_base_model_of_fewer_tokens():
    base, aligned = small(), small(vocab_size=48)
    before = base.model.embed_tokens.weight.detach().clone()
    moved = mix_base(base, aligned, 0.5)
    assert moved is base
    wanted = (before + aligned.model.embed_tokens.weight[:40]) / 2
    torch.testing.assert_close(moved.model.embed_tokens.weight, wanted)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"intermediate_size": 16}, "mlp.*proj.weight has the shape"),
        ({"num_hidden_layers": 2}, r"only the aligned model has model\.layers\.1\."),
        ({"num_key_value_heads": 2}, "num_key_value_heads is 1 in the base and 2"),
        ({"hidden_act": "gelu"}, "hidden_act is silu in the base and gelu"),
        ({"hidden_size": 16}, "has the shape|head_dim"),
    ],
)
def test_models_that_do_not_fit_are_refused_by_name(changes, named):
    with pytest.raises(InputError, match=named):
        check_weights(small(), small(**changes))


def test_refusals_come_before_anything_is_allocated(random_folders, tmp_path, monkeypatch):
    save_tokenizer(tmp_path, chat=True)
    save_model(tmp_path, seed=3)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}))
    pair = Pair(random_folders[0], tmp_path, device="cpu")
    refuse = SimpleNamespace(deepcopy=lambda _: pytest.fail("it was copied"))
    monkeypatch.setattr(interpolate, "copy", refuse)
    with pytest.raises(InputError, match="hidden_act is silu"):
        pair.run([Task(conversation_of(ASK), 0)], make_setting(method="interpolate"))
    with pytest.raises(InputError, match="hidden_act is silu"):
        Pair(random_folders[0], tmp_path, device="cpu", base_weights=0.5)


def test_other_memory_and_other_engines_are_refused(pair, monkeypatch):
    monkeypatch.setattr(interpolate, "available_memory", lambda _: 1000)
    with pytest.raises(BacoError, match=r"a model of mixed weights needs .* GB"):
        texts(pair, method="interpolate")
    made_up = Pair.from_sides("made up", *pair.sides)
    base, aligned = fake_pair()
    made_up.sides = tuple(
        interpolate.replace(s, partner=p) for s, p in zip(pair.sides, (base, aligned), strict=True)
    )
    with pytest.raises(UnsupportedError, match="weights of the base model of 'made up' cannot be"):
        made_up.generate(ASK, method="interpolate", n=1)
    with pytest.raises(UnsupportedError, match="not for the engine 'vllm'"):
        baco.load("tiny~0.3", engine="vllm")


def test_base_weights_play_a_partly_aligned_base(random_folders, pair):
    moved = Pair(*random_folders, device="cpu", base_weights=0.3)
    mine, theirs = (side.partner.model.state_dict() for side in pair.sides)
    for name, weight in moved.base.model.state_dict().items():
        torch.testing.assert_close(weight, 0.7 * mine[name] + 0.3 * theirs[name])
    assert torch.equal(moved.aligned.logits([5, 6]), pair.aligned.logits([5, 6]))
    assert moved.revision != pair.revision
    assert "0.3 of the aligned weights" in repr(moved)
    full = Pair(*random_folders, device="cpu", base_weights=1)
    torch.testing.assert_close(full.base.logits([5, 6]), pair.aligned.logits([5, 6]))
    with pytest.raises(InputError, match=r"base weights 1.5 are out of range"):
        Pair(*random_folders, device="cpu", base_weights=1.5)


def test_base_weights_by_name():
    for name in ("tiny~0.3", "tiny~.3", "tiny~0.30"):
        assert split_weights(name) == ("tiny", 0.3)
    assert [split_weights(f"tiny~{text}")[1] for text in ("0", "1", "1.0")] == [0, 1, 1]
    assert split_weights("a/b,c/d~0.3") == ("a/b,c/d", 0.3)
    assert split_weights("a,C:/PROGRA~1") == ("a,C:/PROGRA~1", 0.0)
    pair = baco.load("tiny~0.3")
    assert pair.name == "tiny~0.3"
    assert pair.known.bundled
    lora = baco.load("tiny-lora", base_weights=0.3)
    assert lora.base.degree == 0.3
    assert lora.generate(ASK, n=1, max_new_tokens=8).texts


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["tiny~1.5"], "base weights 1.5 are out of range"),
        (["tiny~2"], "base weights 2 are out of range"),
        (["tiny~30%"], r"base weights '30%' are no number \(use 0 to 1, as in tiny~0.3\)"),
        (["tiny~"], "base weights '' are no number"),
        (["tiny~0.3", "--base-weights", ".3"], "base weights are given twice"),
    ],
)
def test_base_weights_that_cannot_be(given, says, capsys):
    assert run(["generate", ASK, "-n", "1", "--pair", *given]) == 2
    assert re.search(says, capsys.readouterr().err)


def test_diversity_is_its_control_by_a_curve(capsys):
    pair = baco.load("tiny")
    found = {}
    for diversity in (0, 0.3, 0.7, 1):
        group = pair.generate(ASK, method="interpolate", diversity=diversity, **OPTIONS)
        found[diversity] = group[0].control
        assert (
            group.texts
            == pair.generate(ASK, method="interpolate", control=group[0].control, **OPTIONS).texts
        )
    assert 1 == found[0] > found[0.3] > found[0.7] > found[1] == 0
    command = ["generate", ASK, "-n", "1", "--max-new-tokens", "8", "--json", "--method"]
    assert run([*command, "interpolate", "--diversity", "0.3"]) == 0
    assert json.loads(capsys.readouterr().out)["control"] == found[0.3]
    assert run([*command, "aligned", "--diversity", "0.3"]) == 2
    assert run([*command, "interpolate", "--diversity", "0.3", "--control", "0.3"]) == 2
    assert "both given" in capsys.readouterr().err


def test_a_dry_run_counts_the_third_model(capsys):
    def weights(*options):
        command = ["generate", ASK, "--pair", "tiny", "--dry-run", "--json", "-n", "2", *options]
        assert run(command) == 0
        return json.loads(capsys.readouterr().out)["memory_of_weights_bytes"]

    both, one = weights(), weights("--method", "aligned")
    mixed = weights("--method", "interpolate", "--control", "0.4")
    assert mixed == both + one
    assert weights("--method", "interpolate", "--control", "1") == both
    lora = ["--pair", "tiny-lora"]
    assert weights("--method", "interpolate", *lora) == weights(*lora)


def test_the_command_line(capsys):
    command = ["generate", "Name a city in Italy for my quiz.", "-n", "2", "--max-new-tokens", "8"]
    assert run([*command, "--method", "interpolate", "--control", "0.4", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["control"] for row in rows} == {0.4}
    assert run([*command, "--base-weights", "2"]) == 2
    assert "base weights 2 are out of range" in capsys.readouterr().err
