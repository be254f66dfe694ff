"""The tokenizer, its chat template and the two ways to ask."""

from __future__ import annotations

import pytest

from recipes.tiny.tokenizer import build, chat_ids, plain_ids


@pytest.fixture(scope="module")
def tokenizer():
    return build(documents=2000, vocabulary=1024)


def test_every_text_survives(tokenizer) -> None:
    for text in (" How about Lisbon?", "Zoë 😀 naïve\n\n\tx=12345", "<3 | >"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text


def test_digits_stand_alone(tokenizer) -> None:
    tokens = tokenizer.tokenize(" 47 and 1234")
    assert [token for token in tokens if token.isdigit()] == list("471234")


def test_conversations_and_system_prompts(tokenizer) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "Again."},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|system|> Be kind.<|user|> Hello?<|assistant|> Hi.<|end|><|user|> Again.<|assistant|>"
    )


def test_both_prompts_end_where_the_answer_begins_with_a_space(tokenizer) -> None:
    chat, plain = chat_ids(tokenizer, "Hello?"), plain_ids(tokenizer, "Hello?")
    answer = tokenizer(" How", add_special_tokens=False)["input_ids"]
    for prompt in (chat, plain):
        text = tokenizer.decode([*prompt, *answer])
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == [*prompt, *answer]
