"""The door for users of transformers: what is passed to `generate` is honoured or refused."""

from __future__ import annotations

import copy
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GenerationMixin,
    GPTNeoConfig,
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    StoppingCriteria,
)
from transformers.generation.streamers import BaseStreamer

import baco.hf
import baco.models.verify
from baco.engine.penalties import Penalties
from baco.errors import BacoError, InputError, PairError
from baco.hf import HONOURED, NEUTRAL, SPEED
from conftest import save_model


@pytest.fixture(scope="module")
def models(random_folders: tuple[Path, Path]):
    return [AutoModelForCausalLM.from_pretrained(folder).eval() for folder in random_folders]


@pytest.fixture(scope="module")
def tokenizer(random_folders: tuple[Path, Path]):
    return AutoTokenizer.from_pretrained(random_folders[1])


@pytest.fixture(scope="module")
def ids(tokenizer):
    return tokenizer("What is it?", return_tensors="pt").input_ids


def generate(models, ids, mask=None, **options):
    base, aligned = models
    given = {
        "attention_mask": torch.ones_like(ids) if mask is None else mask,
        "max_new_tokens": 12,
        "pad_token_id": 0,
        "custom_generate": baco.hf.decode,
        "partner": base,
    }
    return aligned.generate(ids, **{k: v for k, v in (given | options).items() if v is not None})


def alone(models, ids, *, eos_token_id=(0, 2), suppress_tokens=(), **options):
    """The aligned model alone, greedily: what transformers itself makes of the options.

    Special tokens that are no ends, and ids that no token has, are suppressed as through the door.
    """
    size = len(AutoTokenizer.from_pretrained(models[1].config.name_or_path))
    ends = [eos_token_id] if isinstance(eos_token_id, int) else list(eos_token_id)
    given = {
        "attention_mask": torch.ones_like(ids), "max_new_tokens": 12, "pad_token_id": 0,
        "do_sample": False, "eos_token_id": ends,
        "suppress_tokens": [*suppress_tokens, *({0, 1, 2, *range(size, 400)} - set(ends))],
    }  # fmt: skip
    return models[1].generate(ids, **(given | options))


GREEDY = {"router": "rand@0", "do_sample": False}
"""The aligned model alone, greedily, through the door."""


def test_answers_follow_their_prompts(models, tokenizer):
    ids = tokenizer("What is it?", return_tensors="pt").input_ids
    three = {"num_return_sequences": 3, "do_sample": True, "router": "rand@0.5"}
    out = generate(models, ids, **three)
    assert out.shape[0] == 3
    assert (out[:, : ids.shape[1]] == ids).all()
    assert len({tuple(row.tolist()) for row in out}) == 3
    assert out.equal(generate(models, ids, **three))
    assert not out.equal(generate(models, ids, **three, seed=1))


def test_padding_changes_nothing(models, tokenizer):
    ids = tokenizer("What is it?", return_tensors="pt").input_ids
    alone = generate(models, ids)[0, ids.shape[1] :]
    padded = torch.cat([torch.zeros(1, 3, dtype=ids.dtype), ids], dim=1)
    mask = torch.cat([torch.zeros(1, 3, dtype=ids.dtype), torch.ones_like(ids)], dim=1)
    beside = generate(models, padded, mask)[0, padded.shape[1] :]
    assert alone.equal(beside)


def test_the_router_decides_who_writes(models, tokenizer):
    ids = tokenizer("What is it?", return_tensors="pt").input_ids
    greedy = baco.hf.Warp(temperature=0)
    aligned = generate(models, ids, router="rand@0", warp=greedy)
    with torch.inference_mode():
        logits = models[1](ids).logits[0, -1, : len(tokenizer)]
    assert aligned[0, ids.shape[1]] == logits.argmax()
    assert not aligned.equal(generate(models, ids, router="rand@1", warp=greedy))


def test_a_partner_is_needed(models, tokenizer):
    ids = tokenizer("What?", return_tensors="pt").input_ids
    with pytest.raises(InputError, match="base model is missing"):
        models[1].generate(ids, max_new_tokens=2, custom_generate=baco.hf.decode)


# --- what is honoured ----------------------------------------------------------------------------


def test_the_door_opens_without_another_import():
    code = (
        "import sys, baco; assert 'torch' not in sys.modules; assert 'hf' in dir(baco);"
        "print(baco.hf.decode.__name__, 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["decode", "True"]


def test_greedy(models, ids):
    wanted = alone(models, ids)
    assert generate(models, ids, **GREEDY).equal(wanted)
    cold = {"do_sample": True, "temperature": 0.001, "top_k": 1}
    assert generate(models, ids, router="rand@0", **cold).equal(wanted)
    config = GenerationConfig(do_sample=False, max_new_tokens=12, pad_token_id=0)
    out = generate(models, ids, router="rand@0", max_new_tokens=None, pad_token_id=None,
                   generation_config=config)  # fmt: skip
    assert out.equal(wanted)
    assert generate(models, ids, **GREEDY, max_new_tokens=None, max_length=20).shape[1] == 20


def test_sampling_is_what_was_asked_for(models, ids):
    given = {"temperature": 0.7, "top_k": 9, "top_p": 0.8, "min_p": 0.05, "typical_p": 0.9}
    warp = baco.hf.Warp(temperature=0.7, top_k=9, top_p=0.8, min_p=0.05, typical=0.9)
    assert generate(models, ids, do_sample=True, **given).equal(generate(models, ids, warp=warp))
    assert generate(models, ids).equal(generate(models, ids, warp=baco.hf.Warp()))
    for more in ({"temperature": 0.7}, {"do_sample": False}):
        with pytest.raises(InputError, match="say two things of one"):
            generate(models, ids, warp=warp, **more)


def test_what_the_checkpoint_says_of_sampling_is_not_read(models, ids):
    config, before = models[1].generation_config, generate(models, ids)
    said = {"do_sample": True, "temperature": 0.2, "repetition_penalty": 1.05}
    try:
        for name, value in said.items():
            setattr(config, name, value)
        assert generate(models, ids).equal(before)
        how = baco.hf.Warp(0.2, penalties=Penalties(repetition_penalty=1.05))
        asked = generate(models, ids, generation_config=config)  # passed, so it is asked for
        assert asked.equal(generate(models, ids, warp=how))
    finally:
        for name in said:
            setattr(config, name, None)


def test_a_repetition_penalty_is_that_of_transformers(models, ids):
    out = generate(models, ids, **GREEDY, repetition_penalty=1.5)
    assert out.equal(alone(models, ids, repetition_penalty=1.5))
    assert not out.equal(alone(models, ids))


@pytest.mark.parametrize("several", [False, True])
def test_end_tokens_that_are_passed(models, ids, several):
    text = alone(models, ids)[0, ids.shape[1] :].tolist()
    end = [text[3], 2] if several else text[3]
    out = generate(models, ids, **GREEDY, eos_token_id=end)
    assert out.equal(alone(models, ids, eos_token_id=end))
    assert out[0, -1] == text[3]


def test_the_end_token_that_was_written_is_returned(models, ids):
    willing = copy.deepcopy(models[1])
    with torch.no_grad():
        willing.lm_head.weight[[0, 2]] *= torch.tensor([[6.0], [-6.0]])
    ends = set()
    for seed in range(12):
        out = generate([models[0], willing], ids, seed=seed, max_new_tokens=40, pad_token_id=1)
        row = out[0, ids.shape[1] :].tolist()
        assert not {0, 2} & set(row[:-1])
        ends |= {row[-1]} if len(row) < 40 else set()
    assert ends == {0, 2}


class After(StoppingCriteria):
    """Stops rows at a length, and remembers what it saw."""

    def __init__(self, length):
        self.length = length
        self.seen = []

    def __call__(self, input_ids, scores, **kwargs):
        self.seen.append(input_ids.shape)
        return torch.full((len(input_ids),), input_ids.shape[1] >= self.length)


def test_stopping_criteria(models, ids):
    length = ids.shape[1] + 4
    mine, theirs = After(length), After(length)
    out = generate(models, ids, **GREEDY, stopping_criteria=[mine])
    assert out.equal(alone(models, ids, stopping_criteria=[theirs]))
    assert mine.seen == theirs.seen
    two = generate(models, ids.repeat(2, 1), stopping_criteria=[After(length)])
    assert two.shape == (2, length)


def test_time(models, ids):
    assert generate(models, ids, max_time=1e-9).shape[1] == ids.shape[1] + 1
    assert generate(models, ids, **GREEDY, max_time=1e9).equal(alone(models, ids))


def test_stop_strings(models, ids, tokenizer):
    text = alone(models, ids)[0, ids.shape[1] :].tolist()
    stop = next(t for t in map(tokenizer.decode, text[1:]) if t.isalpha() and t.isascii())
    wanted = alone(models, ids, stop_strings=[stop], tokenizer=tokenizer)
    assert wanted.shape[1] < ids.shape[1] + 12
    for more in ({}, {"tokenizer": tokenizer}):
        assert generate(models, ids, **GREEDY, stop_strings=[stop], **more).equal(wanted)


def test_tokens_that_are_suppressed(models, ids):
    first = alone(models, ids)[0, ids.shape[1]].item()
    out = generate(models, ids, **GREEDY, suppress_tokens=[first])
    assert out.equal(alone(models, ids, suppress_tokens=[first]))
    assert first not in out[0, ids.shape[1] :]


class Heard(BaseStreamer):
    def __init__(self):
        self.tokens = []
        self.ended = False

    def put(self, value):
        self.tokens.append(value.flatten().tolist())

    def end(self):
        self.ended = True


def test_a_streamer_gets_the_tokens(models, ids):
    heard = Heard()
    out = generate(models, ids, streamer=heard)
    assert heard.tokens == [ids[0].tolist(), *([t] for t in out[0, ids.shape[1] :].tolist())]
    assert heard.ended
    with pytest.raises(InputError, match="a streamer shows one answer"):
        generate(models, ids.repeat(2, 1), streamer=Heard())


def test_a_result_with_a_name(models, ids):
    out = generate(models, ids, **GREEDY, return_dict_in_generate=True)
    assert type(out).__name__ == "GenerateDecoderOnlyOutput"
    assert out.sequences.equal(alone(models, ids))


# --- what is refused -----------------------------------------------------------------------------

REFUSED = {
    "num_beams": 3, "no_repeat_ngram_size": 2, "min_new_tokens": 3,
    "min_length": 9, "bad_words_ids": [[5]], "forced_eos_token_id": 0, "output_scores": True,
    "sequence_bias": {(5,): 1.0}, "begin_suppress_tokens": [3], "epsilon_cutoff": 0.1,
    "exponential_decay_length_penalty": (2, 1.5), "remove_invalid_values": True,
    "prompt_lookup_num_tokens": 3, "top_h": 0.4, "use_cache": False,
    "prefix_allowed_tokens_fn": lambda batch, ids: [1, 2],
    "logits_processor": LogitsProcessorList([MinLengthLogitsProcessor(30, 2)]),
    "position_ids": torch.zeros(1, 4, dtype=torch.int64),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in SPEED])
def test_what_cannot_be_honoured_is_refused_by_name(models, ids, name):
    more = {"do_sample": True} if name in ("top_h", "epsilon_cutoff") else {}
    more |= {"eos_token_id": 0} if name == "exponential_decay_length_penalty" else {}
    more |= {"return_dict_in_generate": True} if name == "output_scores" else {}
    with pytest.raises(InputError, match=f"cannot honour {name}="):
        generate(models, ids, **more, **{name: REFUSED[name]})


def test_arguments_that_mean_nothing_pass(models, ids):
    wanted = generate(models, ids)
    given = {k: v for k, v in NEUTRAL.items() if k not in ("num_beam_groups", "diversity_penalty")}
    assert generate(models, ids, **given).equal(wanted)
    assert generate(models, ids, use_cache=False).equal(wanted)


def test_every_argument_of_generate_is_known_or_refused():
    """A new version of transformers may bring more; None is all that passes of them."""
    known = set(vars(GenerationConfig())) | set(
        inspect.signature(GenerationMixin.generate).parameters
    )
    assert {"repetition_penalty", "streamer", "assistant_model"} <= known
    honoured = HONOURED - {"partner", "partner_tokenizer", "router", "warp", "seed"}
    assert honoured - {"input_ids", "attention_mask", "tokenizer", "trust_remote_code"} <= known
    assert not HONOURED & (SPEED | set(NEUTRAL))
    assert not SPEED & set(NEUTRAL)


def test_unknown_arguments_are_refused(models, ids):
    with pytest.raises(ValueError, match="temprature"):
        generate(models, ids, temprature=0.5)


def test_embeddings_are_refused(models, ids):
    embeddings = models[1].get_input_embeddings()(ids)
    with pytest.raises(InputError, match="cannot honour inputs_embeds="):
        models[1].generate(inputs_embeds=embeddings, max_new_tokens=2, pad_token_id=0,
                           custom_generate=baco.hf.decode, partner=models[0])  # fmt: skip


def test_models_in_training_and_what_is_no_model(models, ids):
    models[0].train()
    try:
        with pytest.raises(InputError, match="training mode"):
            generate(models, ids)
    finally:
        models[0].eval()
    with pytest.raises(InputError, match="a partner cannot be str"):
        generate(models, ids, partner="base")


def test_it_is_for_generate_alone(models, ids):
    with pytest.raises(InputError, match="is for generate alone"):
        baco.hf.decode(models[1], ids, generation_config=None, partner=models[0])


def test_a_partner_that_knows_fewer_ids(models, ids, tokenizer, tmp_path):
    from transformers import AddedToken

    longer = AutoTokenizer.from_pretrained(models[1].config.name_or_path)
    longer.add_tokens([AddedToken("<|turn|>", special=True)])
    longer.save_pretrained(tmp_path)
    save_model(tmp_path, seed=1, vocabulary=max(len(longer), 400) + 1)
    aligned = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    pair = [models[0], aligned]
    assert generate(pair, ids, router="rand@0.5").shape[1] > ids.shape[1]
    turn = longer("<|turn|>Hi", return_tensors="pt").input_ids
    with pytest.raises(InputError, match="tokens that the base model does not know"):
        generate(pair, turn)


# --- the one run ---------------------------------------------------------------------------------


def test_rows_are_those_of_an_engine_with_the_same_keys(models, ids):
    """The noise of a row depends on the seed, its prompt's ids, and how often they came before."""
    from baco.engine import Engine, Request
    from baco.engine.noise import row_key
    from baco.models.hf import HFPartner
    from baco.models.tokens import vocabulary_of
    from baco.routers import parse

    vocabulary = vocabulary_of(
        AutoTokenizer.from_pretrained(models[1].config.name_or_path), {0, 2}, torch.device("cpu")
    )
    engine = Engine(*(HFPartner(model, vocabulary) for model in models))
    prompt = tuple(ids[0].tolist())
    rows = [
        engine.submit(
            Request(
                base_prompt=prompt,
                aligned_prompt=prompt,
                router=parse("p-punc"),
                key=row_key(7, repr(prompt), index),
                warp=baco.hf.Warp(),
                max_new_tokens=12,
            )
        )
        for index in range(3)
    ]
    wanted = {row: [] for row in rows}
    while not engine.idle:
        for event in engine.step():
            wanted[event.row] += [*event.tokens, *([] if event.end is None else [event.end])]
    out = generate(models, ids, num_return_sequences=3, do_sample=True, seed=7)[
        :, ids.shape[1] :
    ].tolist()
    assert [row[: len(wanted[number])] for row, number in zip(out, rows, strict=True)] == list(
        wanted.values()
    )


def test_its_checks_are_those_of_every_run(models, ids, monkeypatch):
    with pytest.raises(InputError, match="judges text"):
        generate(models, ids, router="judge")
    long = ids[:, :1].repeat(1, models[1].config.max_position_embeddings)
    with pytest.raises(InputError, match="context window"):
        generate(models, long, max_new_tokens=4)
    broken = copy.deepcopy(models[0])
    with torch.no_grad():
        broken.lm_head.weight.fill_(torch.nan)
    with pytest.raises(BacoError, match="the base model"):
        generate([broken, models[1]], ids)


def test_memory_bounds_the_rows_of_one_engine(models, ids, monkeypatch):
    from baco.models.memory import Memory

    wanted, asked = generate(models, ids, num_return_sequences=5, do_sample=True), []

    def rows(self, sides, jobs, limit, *, busy=False):
        asked.append(len(jobs))
        return 2

    monkeypatch.setattr(Memory, "rows", rows)
    assert generate(models, ids, num_return_sequences=5, do_sample=True).equal(wanted)
    assert max(asked) == 5


def test_models_are_checked_as_pairs_are(models, ids, random_folders, tmp_path, monkeypatch):
    config = GPTNeoConfig(
        vocab_size=400, hidden_size=32, num_layers=2, num_heads=4, window_size=6,
        attention_types=[[["global", "local"], 1]], initializer_range=0.4,
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    shutil.copytree(random_folders[1], tmp_path, dirs_exist_ok=True)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    odd = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    two = ids.repeat(2, 1)
    mask = torch.ones_like(two)
    mask[1, :2] = 0  # rows of unequal length are what its code gets wrong
    out = generate([models[0], odd], two, mask, **GREEDY)[:, ids.shape[1] :]
    for row, prompt in zip(out, (ids, ids[:, 2:]), strict=True):
        expected = alone([models[0], odd], prompt)[0, prompt.shape[1] :]
        assert row[: len(expected)].tolist() == expected.tolist()
    passes = []
    monkeypatch.setattr(baco.models.verify, "_compare", passes.append)
    assert generate([models[0], odd], ids).shape[1] > ids.shape[1]
    assert not passes  # both are known by now
    broken = copy.deepcopy(models[0])
    broken.get_output_embeddings().weight.data[5] = torch.nan
    monkeypatch.undo()
    with pytest.raises(PairError, match=r"the base model .*float32.* not finite .*bfloat16"):
        generate([broken, models[1]], ids, **GREEDY)
