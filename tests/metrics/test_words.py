"""Words: the specification's in spaced scripts, Unicode's in scripts without spaces."""

from __future__ import annotations

import pytest

from baco.metrics import score
from baco.metrics.partition import short_rule
from baco.metrics.words import UNSPACED, UNTRAINED, mostly_not_ascii, tokenizer_name, words

CATS = ["我喜欢猫和狗", "我喜欢猫和鱼", "今天天气很好"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("我喜欢猫。", ["我", "喜", "欢", "猫", "。"]),
        ("カタカナとひらがな", ["カタカナ", "と", "ひ", "ら", "が", "な"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("我有2只cats, see?", ["我", "有", "2", "只", "cats", ",", "see", "?"]),
        ("Où est-il? Нет, кот.", ["Où", "est-il", "?", "Нет", ",", "кот", "."]),
        ("  ", []),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    assert words(text, UNTRAINED + UNSPACED) == found


def test_the_specification_splits_at_spaces_only() -> None:
    assert words("我喜欢猫", UNTRAINED) == ["我喜欢猫"]
    assert tokenizer_name().endswith(UNSPACED)


def test_sentences_that_differ_by_one_character_are_alike() -> None:
    # By hand: twelve characters of seven kinds, the first five of six the same in both.
    near = score([{"generations": CATS[:2]}], "dist_1,self_bleu,self_rouge_l", cache=False).means
    assert near["dist_1"] == pytest.approx(7 / 12)
    assert near["self_rouge_l"] == pytest.approx(5 / 6)
    assert near["self_bleu"] == pytest.approx((5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25)
    far = score([{"generations": CATS[1:]}], "self_rouge_l", cache=False).means
    assert far["self_rouge_l"] == 0


def test_letters_beyond_ascii_are_not_dropped() -> None:
    texts = ["У меня 2 кота", "Я люблю 2 вещи"]  # only the number is ASCII; it is not all of them
    found = score([{"generations": texts}], "self_rouge_l", cache=False).means
    assert found["self_rouge_l"] == pytest.approx(1 / 4)
    assert [mostly_not_ascii(t) for t in ("café au lait", "7 !", "кот cat x")] == [0, 0, 0]


def test_short_answers_are_counted_in_words() -> None:
    assert short_rule("东京", "东京塔") is True
    assert short_rule("我喜欢猫和狗", "我喜欢猫和鱼") is None
    assert short_rule("Brad Pitt", "Tom Hanks") is False


def test_blank_outputs_are_alike() -> None:
    found = score([{"generations": ["   ", "\n\n"]}], "self_bleu,self_rouge_l", cache=False)
    assert found.means == {"self_bleu": 1, "self_rouge_l": 1}
    assert found.counts["empty_outputs"] == 2
