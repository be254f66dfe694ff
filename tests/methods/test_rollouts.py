"""Roll-outs: what they hold, their probabilities against the oracle's draws, and refusals."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest

import baco
from baco.cli import run
from baco.errors import InputError, UnsupportedError
from baco.methods.rollouts import KNOWN

ASK = "What is the capital of France?"
OPTIONS = {"n": 3, "max_new_tokens": 40, "seed": 3}


@pytest.mark.parametrize("method", KNOWN)
def test_they_are_the_answers_of_generate_and_their_law(random_pair, method):
    made = sorted(random_pair.rollouts(ASK, method=method, **OPTIONS), key=lambda r: r.index)
    group = random_pair.generate(ASK, method=method, **OPTIONS)
    assert [tuple(r.token_ids) for r in made] == [s.token_ids for s in group]
    base, aligned = random_pair.prompt_ids(baco.prompts.conversation_of(ASK))
    for one in made:
        assert len(one.logprobs) == len(one.token_ids) == len(one.sources)
        assert all(-80 < p <= 1e-6 for p in one.logprobs)
        assert one.base_prompt_ids == ([] if method == "aligned" else list(base))
        assert one.aligned_prompt_ids == ([] if method == "base" else list(aligned))
        assert (one.end_logprob is None) == (one.end_id is None)
        assert json.loads(json.dumps(one.as_dict()))["seed"] == 3


def test_a_single_model_s_law_is_its_own_softmax(random_pair):
    (one,) = random_pair.rollouts(ASK, 1, method="aligned", top_p=1.0, max_new_tokens=40)
    ids, partner = list(one.aligned_prompt_ids), random_pair.aligned
    allowed = partner.vocabulary.allowed
    for token, told in zip(one.token_ids, one.logprobs, strict=True):
        logits = partner.logits(ids)[: len(allowed)].double().masked_fill(~allowed, -math.inf)
        assert told == pytest.approx(float(logits.log_softmax(-1)[token]), abs=1e-4)
        ids.append(token)


@pytest.mark.parametrize("router", ["rand@0.5", "p-punc@0.5", "punc"])
def test_frequencies_of_whole_answers(random_pair, router):
    """Of answers of two tokens at a low temperature the commonest come as often as they should."""
    options = {"router": router, "max_new_tokens": 2, "temperature": 0.4, "top_p": 0.7}
    made = list(random_pair.rollouts(ASK, 400, **options))
    first = Counter(tuple(r.token_ids[:1]) for r in made)
    law = {tuple(r.token_ids[:1]): math.exp(r.logprobs[0]) for r in made if r.token_ids}
    assert sum(law.values()) <= 1 + 1e-6
    for answer, chance in law.items():
        spread = math.sqrt(400 * chance * (1 - chance)) + 1
        assert abs(first[answer] - 400 * chance) < 4.5 * spread, (answer, chance)
    for begun in [a for a, count in first.items() if a and count > 100]:
        rest = [r for r in made if r.token_ids[:1] == list(begun) and len(r.token_ids) == 2]
        second = Counter(r.token_ids[1] for r in rest)
        n = first[begun]
        for r in rest:
            chance = math.exp(r.logprobs[1])
            spread = math.sqrt(n * chance * (1 - chance)) + 1
            assert abs(second[r.token_ids[1]] - n * chance) < 4.5 * spread


def test_what_has_no_law_is_refused(random_pair):
    with pytest.raises(UnsupportedError, match=r"law of the method 'in-context' is not known"):
        random_pair.rollouts(ASK, method="in-context")
    with pytest.raises(InputError, match="short stops"):
        random_pair.rollouts(ASK, restart_shorter_than=3)
    with pytest.raises(InputError, match="drawn again for being alike"):
        random_pair.rollouts(ASK, distinct="text")
    with pytest.raises(UnsupportedError, match="law of penalties"):
        random_pair.rollouts(ASK, frequency_penalty=0.5)
    with pytest.raises(InputError, match="greedy roll-outs"):
        random_pair.rollouts(ASK, temperature=0)
    with pytest.raises(UnsupportedError, match="no closed form"):
        random_pair.rollouts(ASK, router="p-ahead3@0.3")


def test_the_command_writes_lines(tmp_path, capsys):
    out = tmp_path / "r.jsonl"
    ask = "Name a city in Italy for my quiz."
    command = ["rollouts", ask, "-n", "2", "--max-new-tokens", "12"]
    assert run([*command, "--output", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert sorted(row["index"] for row in rows) == [0, 1]
    assert run([*command, "--output", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert run([*command]) == 0
    assert {line["text"] for line in rows} == {
        json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()
    }
