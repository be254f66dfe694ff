"""What users may ask, and the plain text of App. A that a base model is given."""

from __future__ import annotations

import pytest

from baco.errors import InputError
from baco.prompts import PlainTemplate, as_json, conversation_of, identity, question_of

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
        (["Hi"], "must have role and content"),
        ([{"role": "user"}], "must have role and content"),
        ([{"role": "user", "content": None}], "must have role and content"),
        ([{"role": "tool"}], "must have role and content"),
        ([{"role": "wizard", "content": "x"}], "unknown role 'wizard'"),
        ([{"role": "user", "content": ["x"]}], "must be text"),
        ([{"role": "user", "content": 7}], "must be text, not 7"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "must be text"),
        ([{"role": "user", "content": [{"type": "text", "text": None}]}], "must be text"),
        ([{"role": "user", "content": []}], "the prompt is empty"),
        ([TALK[0], {"role": "assistant", "content": " "}, TALK[1] | {"content": " "}], "is empty"),
        ([{"role": "assistant", "content": ""}], "the prompt is empty"),
        ([TALK[1] | {"tool_calls": [{}]}], "by 'user' cannot have 'tool_calls'"),
        ([TALK[1] | {"colour": "red"}], "by 'user' cannot have 'colour'"),
        ([{"role": "assistant", "audio": {"id": "x"}}, TALK[1]], "cannot have 'audio'"),
        ([{"role": "assistant", "tool_calls": [{}]}, TALK[1]], "function with a name"),
        ([{"role": "assistant", "tool_calls": 7}, TALK[1]], "function with a name"),
        ("\ud800", "not valid text"),
    ],
)
def test_bad_prompts(prompt, message):
    with pytest.raises(InputError, match=message):
        conversation_of(prompt)


CALL = {"id": "1", "type": "function", "function": {"name": "rain", "arguments": '{"in": "Rome"}'}}


@pytest.mark.parametrize(
    ("messages", "plain"),
    [
        # several system messages, wherever they stand
        (
            [TALK[0], {"role": "developer", "content": "Be kind."}, TALK[1]],
            "Be brief.\n\nBe kind.\n\nQuestion: Name a fruit.\nAnswer:",
        ),
        ([TALK[1], TALK[0]], "Be brief.\n\nQuestion: Name a fruit.\nAnswer:"),
        (
            [TALK[1], TALK[2], TALK[0], TALK[3]],
            "Question: Name a fruit.\nAnswer: Plum.\n\nBe brief.\n\n"
            "Question: Another one.\nAnswer:",
        ),
        ([TALK[0]], "Be brief.\n\nAnswer:"),
        # user after user, also where an answer between them is empty or missing
        ([TALK[1], TALK[3]], "Question: Name a fruit.\nAnother one.\nAnswer:"),
        (
            [TALK[1], {"role": "assistant", "content": None}, TALK[3]],
            "Question: Name a fruit.\nAnother one.\nAnswer:",
        ),
        (
            [TALK[1], {"role": "assistant"}, TALK[3]],
            "Question: Name a fruit.\nAnother one.\nAnswer:",
        ),
        # parts
        (
            [{"role": "user", "content": [{"type": "text", "text": "Name a "},
                                          {"type": "text", "text": "fruit.", "cache": 1}]}],
            "Question: Name a fruit.\nAnswer:",
        ),
        # the assistant first, twice, and last: a prefill
        ([TALK[2], TALK[1]], "Answer: Plum.\n\nQuestion: Name a fruit.\nAnswer:"),
        (
            [TALK[1], TALK[2], TALK[2], TALK[3]],
            "Question: Name a fruit.\nAnswer: Plum.\n\nAnswer: Plum.\n\n"
            "Question: Another one.\nAnswer:",
        ),
        (TALK[:3], "Be brief.\n\nQuestion: Name a fruit.\nAnswer: Plum."),
        ([TALK[2]], "Answer: Plum."),
        ([TALK[1], {"role": "assistant", "content": "\nA"}], "Question: Name a fruit.\nAnswer:\nA"),
        ([TALK[1], {"role": "assistant", "content": ""}], "Question: Name a fruit.\nAnswer:"),
        # tools, as text
        (
            [TALK[1], {"role": "assistant", "content": None, "tool_calls": [CALL]},
             {"role": "tool", "tool_call_id": "1", "content": "dry"}],
            'Question: Name a fruit.\nAnswer: rain({"in": "Rome"})\n\nQuestion: dry\nAnswer:',
        ),
        # what clients send along and what means nothing
        (
            [TALK[1] | {"name": "bob"}, TALK[2] | {"refusal": None, "annotations": [],
             "audio": None, "function_call": None, "tool_calls": []}, TALK[3]],
            "Question: Name a fruit.\nAnswer: Plum.\n\nQuestion: Another one.\nAnswer:",
        ),
    ],
)  # fmt: skip
def test_conversations_that_clients_send(messages, plain):
    conversation = conversation_of(messages)
    assert PlainTemplate().write(conversation) == plain
    assert conversation_of(as_json(conversation)) == conversation


def test_an_answer_to_nothing_is_not_lost_where_it_stands_first():
    template = PlainTemplate(turn="{assistant}, said of {user}\n")
    assert template.write(conversation_of([TALK[2], TALK[1]])).startswith("Plum., said of \n")


def test_what_an_assistant_said_otherwise_than_as_content():
    call = {"name": "f", "arguments": {"a": 1}}
    said = conversation_of(
        [{"role": "assistant", "content": "Let me see.", "tool_calls": [CALL],
          "function_call": call}, {"role": "assistant", "refusal": "No."}, TALK[1]]
    )  # fmt: skip
    assert said[0].content == 'Let me see.\nrain({"in": "Rome"})\nf({"a": 1})'
    assert said[1].content == "No."


def test_a_lone_message_by_another_is_not_a_question():
    """Else a prefill would share its noise with the question of the same words."""
    prefill = conversation_of([{"role": "assistant", "content": "Hi"}])
    assert identity(prefill) != identity(conversation_of("Hi"))
    assert as_json(prefill) == [{"role": "assistant", "content": "Hi"}]
    assert question_of(conversation_of(TALK)) == "Another one."
    assert question_of(conversation_of(TALK[:3])) == "Name a fruit."
    assert question_of(conversation_of(TALK[:1])) == "Be brief."


def test_the_identity_of_prompts_stays_what_it_was():
    """It decides the noise: if it changed, every sample of a conversation would."""
    assert identity(conversation_of(TALK[:2])) == (
        '[{"content": "Be brief.", "role": "system"}, {"content": "Name a fruit.", "role": "user"}]'
    )


def test_an_empty_system_prompt():
    with pytest.raises(InputError, match="the system prompt is empty"):
        conversation_of("Hi", " ")


def test_two_system_prompts():
    with pytest.raises(InputError, match="two system prompts"):
        conversation_of(TALK, "Be long.")


@pytest.mark.parametrize(
    ("turn", "boundary"),
    [
        ("Question: {user}\nAnswer: {assistant}\n\n", "\n\nQuestion:"),
        ("Q. {user}\nA. {assistant}\n", "\nQ."),
        ("{user} -> {assistant}\n", ""),
        ("{{x}} {user}: {assistant} |", " |{x}"),
        ("{assistant}, said of {user}", ""),
    ],
)
def test_the_text_by_which_a_base_model_opens_another_turn(turn, boundary):
    assert PlainTemplate(turn=turn).boundary == boundary
