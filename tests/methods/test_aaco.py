"""Two aligned models: the more diverse one, as measured, plays the base."""

from __future__ import annotations

import json

import pytest

import baco
from baco.cli import run
from baco.errors import BacoError, InputError
from baco.methods import aaco
from baco.models.sides import Side
from baco.pair import Pair
from baco.partners.fake import FakePartner
from support.engines import WORDS, words_vocabulary

VOCABULARY = words_vocabulary()


def two(base_spread: float, aligned_spread: float) -> Pair:
    """Two models that say one of two words; the larger the spread, the more evenly."""

    def side(name: str, spread: float) -> Side:
        probs = {" cat": 1 - spread / 2, " dog": spread / 2}
        partner = FakePartner(VOCABULARY, lambda _: [probs.get(word, 1e-9) for word in WORDS])
        return Side(name, partner, lambda _: [1], lambda _: [1], [w.encode() for w in WORDS])

    pair = Pair.from_sides("two", side("one", base_spread), side("other", aligned_spread))
    pair.base_prompt = "chat"
    return pair


def words(prompt: object, texts: list[str]) -> float:
    return len({word for text in texts for word in text.split()})


@pytest.mark.parametrize("spreads", [(1.0, 0.02), (0.02, 1.0)])
def test_the_more_diverse_model_plays_the_base(spreads: tuple[float, float]) -> None:
    pair = two(*spreads)
    found = aaco.order(pair, ["a", "b"], measure=words, max_new_tokens=6, seed=1)
    assert found.swapped is (spreads[1] > spreads[0])
    assert found.base == ("other" if found.swapped else "one")
    assert found.diversity[0] > found.diversity[1]
    assert (found.prompts, found.samples, found.seed, found.measure) == (2, 6, 1, "words")
    turned = aaco.ordered(pair, found)
    assert [side.label for side in turned.sides] == [found.base, found.aligned]
    assert aaco.order(turned, ["a", "b"], measure=words, max_new_tokens=6, seed=1).swapped is False
    assert aaco.ordered(turned, aaco.order(turned, ["a"], max_new_tokens=6)).name == "two"


def test_a_tie_keeps_the_order() -> None:
    found = aaco.order(two(0.5, 0.5), ["a"], measure=lambda prompt, texts: 3.0)
    assert not found.swapped
    assert found.diversity == (3.0, 3.0)


def test_distinct_word_pairs() -> None:
    assert aaco.distinct_word_pairs("", ["a b c", "a b c"]) == 0.5
    assert aaco.distinct_word_pairs("", ["A b", "a B"]) == 0.5
    assert aaco.distinct_word_pairs("", ["one", ""]) == 0.0


def test_what_cannot_be_ordered(random_pair: Pair) -> None:
    with pytest.raises(InputError, match="has a base model, so there is nothing to order"):
        aaco.order(random_pair)
    with pytest.raises(InputError, match="has a base model"):
        random_pair.generate("Hi", n=1, method="aaco")
    with pytest.raises(InputError, match="1 samples are too few"):
        aaco.order(two(1, 1), ["a"], samples=1)
    with pytest.raises(InputError, match="no prompts to measure on"):
        aaco.order(two(1, 1), [])
    with pytest.raises(BacoError, match="the measure gave nan"):
        aaco.order(two(1, 1), ["a"], measure=lambda prompt, texts: float("nan"), max_new_tokens=2)
    with pytest.raises(BacoError, match="the measure failed: ValueError: could not convert"):
        aaco.order(two(1, 1), ["a"], measure=lambda prompt, texts: "wide", max_new_tokens=2)


def test_the_method_turns_the_pair_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aaco, "prompts_for", lambda name: ["a", "b"])
    monkeypatch.setattr(aaco, "TOKENS", 6)
    given, turned = two(0.02, 1.0), two(1.0, 0.02)
    options = {"n": 3, "router": "p@1", "max_new_tokens": 8}
    group = given.generate("x", method="aaco", **options)
    assert group[0].details is not None
    assert group[0].details["plays_base"] == "other"
    assert group[0].details["diversity"][0] > group[0].details["diversity"][1]
    assert group[0].method == "aaco"
    assert (group[0].router, group[0].gamma) == ("p", 1.0)
    plain = turned.generate("x", method="baco", **options)
    assert [s.token_ids for s in group] == [s.token_ids for s in plain]
    assert [s.sources for s in group] == [s.sources for s in plain]


def test_bundled_pairs_from_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Suggest a summer trip destination.\nName a city in Italy for my quiz.\n")
    assert run(["pairs", "--order", "tiny-run", "--input", str(prompts), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "sft" in found["base"]  # more diverse before preference optimisation
    assert not found["swapped"]
    assert found["measure"] == "distinct_meanings"
    assert run(["pairs", "--order", "tiny-run", "--input", str(prompts)]) == 0
    assert "it should play the base, as it does." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--order", "tiny"], "has a base model, so there is nothing to order"),
        (["--order", "tinny"], "unknown pair 'tinny'"),
        (["--order", "tiny-run", "--measure", "nonsense"], "measure 'nonsense' is not module"),
        (["--measure", "a:b"], "--input and --measure are for --order"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert run(["pairs", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_two_checkpoints_of_one_run_from_folders(capsys: pytest.CaptureFixture[str]) -> None:
    from baco.models.known import bundled_folder

    folders = f"{bundled_folder('sft')},{bundled_folder('aligned')}"
    asked = ["generate", "Name a city in Italy for my quiz.", "-n", "2", "--json",
             "--router", "p-punc@0.4"]  # fmt: skip
    assert run([*asked, "--pair", folders, "--base-prompt", "chat"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert run([*asked, "--pair", "tiny-run"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    assert run([*asked, "--base-prompt", "chatty"]) == 2
    assert "unknown base prompt 'chatty'" in capsys.readouterr().err


def test_a_pair_knows_how_its_base_side_is_asked() -> None:
    assert baco.load("tiny-run").base_prompt == "chat"
    assert baco.load("tiny-sft").base_prompt == "plain"
