"""What users may ask, and the plain text of App. A that a base model is given."""

from __future__ import annotations

import pytest

from baco.errors import InputError
from baco.prompts import PlainTemplate, as_json, conversation_of, identity

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Name a fruit."},
    {"role": "assistant", "content": "Plum."},
    {"role": "user", "content": "Another one."},
]


def test_a_question_as_plain_text():
    text = PlainTemplate().write(conversation_of("Name a fruit."))
    assert text == "Question: Name a fruit.\nAnswer:"


def test_a_conversation_as_plain_text():
    assert PlainTemplate().write(conversation_of(TALK)) == (
        "Be brief.\n\nQuestion: Name a fruit.\nAnswer: Plum.\n\nQuestion: Another one.\nAnswer:"
    )


def test_braces_in_prompts_are_only_text():
    assert "{user} {0}" in PlainTemplate().write(conversation_of("{user} {0}"))


def test_parts_of_the_template_can_be_replaced():
    template = PlainTemplate(last="Q: {user}\nA:", turn="Q: {user}\nA: {assistant}\n")
    assert template.write(conversation_of(TALK[1:])).startswith("Q: Name a fruit.\nA: Plum.\nQ: ")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"last": "Answer:"}, "'last' lacks {user}"),
        ({"turn": "{user} {answer}"}, "'turn' cannot be filled in"),
        ({"system": "{"}, "'system' cannot be filled in"),
    ],
)
def test_templates_are_checked(parts, message):
    with pytest.raises(InputError, match=message):
        PlainTemplate(**parts)


def test_system_argument_is_a_system_message():
    assert conversation_of("Hi", "Be brief.") == conversation_of(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    )


def test_a_question_and_its_conversation_are_the_same_prompt():
    one = conversation_of("Hi")
    other = conversation_of([{"role": "user", "content": "Hi"}])
    assert identity(one) == identity(other) == "Hi"
    assert as_json(other) == "Hi"
    assert as_json(conversation_of(TALK)) == TALK
    assert identity(conversation_of(TALK)) != identity(conversation_of(TALK[1:]))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "the prompt is empty"),
        (" \n\t", "the prompt is empty"),
        ([], "the prompt is empty"),
        (7, "a prompt cannot be int"),
        (["Hi"], "must have exactly role and content"),
        ([{"role": "user"}], "must have exactly role and content"),
        ([{"role": "tool", "content": "x"}], "unknown role 'tool'"),
        ([{"role": "user", "content": ["x"]}], "must be text"),
        (TALK[:3], "turn 2|does not end with the user"),
        (TALK[:1], "does not end with the user"),
        (TALK[2:], "turn 1 of the conversation is by 'assistant', not 'user'"),
        ([TALK[1], TALK[1]], "turn 2 of the conversation is by 'user', not 'assistant'"),
        ("\ud800", "not valid text"),
    ],
)
def test_bad_prompts(prompt, message):
    with pytest.raises(InputError, match=message):
        conversation_of(prompt)


def test_an_empty_system_prompt():
    with pytest.raises(InputError, match="the system prompt is empty"):
        conversation_of("Hi", " ")


def test_two_system_prompts():
    with pytest.raises(InputError, match="two system prompts"):
        conversation_of(TALK, "Be long.")
