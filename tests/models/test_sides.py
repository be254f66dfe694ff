"""Prompts through chat templates: the same on every day, and nothing that was said gets lost."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from baco.errors import InputError, PairError
from baco.metrics.hf import chat_ids, end_of_turn
from baco.models.sides import chat_encoder
from baco.prompts import conversation_of
from conftest import CHAT_TEMPLATE

SYSTEM = {"role": "system", "content": "Be Brief."}
USER = {"role": "user", "content": "Name a fruit."}
ASSISTANT = {"role": "assistant", "content": "A plum."}
TOOL = {"role": "tool", "content": 'It said "dry".'}

LOOP = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% set c = m['content'] %}"
CLOSE = "<|im_end|>\n{% endfor %}"
PARTS = "{% for p in c %}{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}"


@pytest.fixture
def tokenizer(random_folders: tuple[Path, Path]):
    return AutoTokenizer.from_pretrained(random_folders[1])


def prompt(tokenizer, *messages: dict[str, str]) -> str:
    return tokenizer.decode(chat_encoder(tokenizer, "aligned")(conversation_of(messages)))


class OtherDay(datetime.datetime):
    """A clock that shows another day."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return datetime.datetime(1999, 12, 31, 23, 59)


@pytest.mark.parametrize(
    ("asks", "shows"),
    [
        ("strftime_now('%Y-%m-%d')", "2024-07-26"),
        ('strftime_now( "%d %B %Y, %A %H:%M" )', "26 July 2024, Friday 00:00"),
        ("date_string", "26 Jul 2024"),
        ("strftime_now('%d %b %Y') if strftime_now is defined else 'never'", "26 Jul 2024"),
    ],
)
def test_it_is_always_the_same_day(tokenizer, monkeypatch, asks, shows):
    tokenizer.chat_template = (
        "{% macro day() %}{{ " + asks + " }}{% endmacro %}Today is {{ day() }}.\n" + CHAT_TEMPLATE
    )
    monkeypatch.setattr(chat_template_utils, "datetime", OtherDay)
    talk = [{"role": "user", "content": "Hi"}]
    assert "1999" in tokenizer.apply_chat_template(talk, tokenize=False) or "date_string" in asks
    assert prompt(tokenizer, USER).startswith(f"Today is {shows}.\n<|im_start|>user")
    scored = tokenizer.decode(chat_ids(tokenizer, "judge", talk, ask=True))
    assert scored.startswith(f"Today is {shows}.\n<|im_start|>user")


@pytest.mark.parametrize(
    "asks", ["strftime_now(f)", "(strftime_now)('%Y')", "['a', 'b'] | random", "lipsum()"]
)
def test_a_template_that_is_never_the_same_is_refused(tokenizer, asks):
    tokenizer.chat_template = "{% set f = '%Y' %}{{ " + asks + " }}" + CHAT_TEMPLATE
    with pytest.raises(PairError, match="reads the clock or draws at random"):
        chat_encoder(tokenizer, "aligned")


@pytest.mark.parametrize(
    "content",
    [
        PARTS,
        "{{ c[0]['text'] }}",
        "{{ c[0]['text'] + '' }}",  # raises where the content is text
        "{% if c is string %}{{ c }}{% else %}" + PARTS + "{% endif %}",
        "{% if m['role'] == 'user' %}" + PARTS + "{% else %}{{ c }}{% endif %}",
    ],
)
def test_templates_are_given_the_content_that_they_show(tokenizer, content):
    wanted = prompt(tokenizer, SYSTEM, USER, ASSISTANT, USER)
    tokenizer.chat_template = LOOP + content + CLOSE + "<|im_start|>assistant\n\n"
    assert prompt(tokenizer, SYSTEM, USER, ASSISTANT, USER) == wanted


@pytest.mark.parametrize(
    "content",
    ["", "{{ c | upper }}", "{{ c[:9] }}", "{{ c | truncate(9) }}", "{{ c | replace(' ', '') }}",
     "{{ c | tojson if c is not string }}", "{{ c if c is not string }}"],
)  # fmt: skip
def test_a_template_that_loses_the_question_is_refused_at_load(tokenizer, content):
    tokenizer.chat_template = LOOP + content + CLOSE
    with pytest.raises(PairError, match="leaves out or changes what the user says"):
        chat_encoder(tokenizer, "aligned")


def test_what_a_template_loses_later_is_refused_by_name(tokenizer):
    tokenizer.chat_template = LOOP + "{% if m['role'] == 'user' %}{{ c[:60] }}{% endif %}" + CLOSE
    encode = chat_encoder(tokenizer, "aligned")
    assert encode(conversation_of([USER]))
    with pytest.raises(InputError, match="leaves out or changes what the system says"):
        encode(conversation_of([USER, SYSTEM, USER]))
    with pytest.raises(InputError, match="leaves out or changes what the assistant says"):
        encode(conversation_of([USER, ASSISTANT, USER]))
    with pytest.raises(InputError, match="leaves out or changes what the user says"):
        encode(conversation_of("Name a fruit " * 9))


@pytest.mark.parametrize("answer", ["{{ raise_exception('System role not supported') }}", ""])
def test_a_system_text_without_a_place_stands_before_the_question(tokenizer, answer):
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}"
        + answer
        + "{% else %}[{{ m['role'] }}] {{ m['content'] }} {% endif %}{% endfor %}"
    )
    assert prompt(tokenizer, SYSTEM, USER, ASSISTANT, USER) == (
        "[user] Be Brief.\n\nName a fruit. [assistant] A plum. [user] Name a fruit. "
    )
    with pytest.raises(InputError, match=r"System role not supported|what the .*system .*says"):
        prompt(tokenizer, SYSTEM, ASSISTANT, USER)


def test_what_templates_do_and_may_do(tokenizer):
    """Folding the system text into the question, trimming, leaving out thoughts, quoting tools."""
    tokenizer.chat_template = (
        "{% set ns = namespace(s='') %}{% for m in messages %}{% set c = m['content'] %}"
        "{% if m['role'] == 'system' %}{% set ns.s = c + '\n\n' %}"
        "{% elif m['role'] == 'tool' %}[{{ c | tojson }}]"
        "{% elif m['role'] == 'assistant' %} {{ c.split('</think>')[-1] | trim }}"
        "{% else %}[INST] {{ ns.s + c | trim }} [/INST]{% endif %}{% endfor %}"
    )
    thought = {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nA plum.\n"}
    spaced = {"role": "user", "content": "\n Name a fruit. "}
    assert prompt(tokenizer, SYSTEM, spaced, thought, TOOL) == (
        '[INST] Be Brief.\n\nName a fruit. [/INST] A plum.["It said \\"dry\\"."]'
    )


def test_a_prefill_leaves_the_last_message_open(tokenizer):
    opened = prompt(tokenizer, USER)
    assert prompt(tokenizer, USER, ASSISTANT) == opened + "A plum."
    assert prompt(tokenizer, USER, {"role": "assistant", "content": "A "}) == opened + "A "
    tokenizer.chat_template = CHAT_TEMPLATE.replace("m['content']", "m['content'] | trim")
    assert prompt(tokenizer, USER, {"role": "assistant", "content": "A "}) == opened + "A"


def test_a_template_decides_which_orders_it_takes(tokenizer):
    encode = chat_encoder(tokenizer, "aligned")
    for talk in ([SYSTEM, SYSTEM, USER], [USER, USER], [USER, SYSTEM], [ASSISTANT, USER], [TOOL]):
        text = tokenizer.decode(encode(conversation_of(talk)))
        assert all(message["content"] in text for message in talk)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate') }}{% endif %}{{ m['content'] }}{% endfor %}"
    )
    encode = chat_encoder(tokenizer, "aligned")
    with pytest.raises(InputError, match="refuses this conversation: Roles must alternate"):
        encode(conversation_of([USER, USER]))


def test_named_templates(tokenizer):
    tokenizer.chat_template = {"default": CHAT_TEMPLATE, "rag": "x"}
    assert "Name a fruit." in prompt(tokenizer, USER)
    tokenizer.chat_template = {"tool_use": CHAT_TEMPLATE, "rag": "x"}
    with pytest.raises(PairError, match=r"several chat templates \(rag, tool_use\) and no default"):
        chat_encoder(tokenizer, "aligned")


def test_a_broken_template_is_one_line(tokenizer):
    for broken in ("{{ messages[7]['content'] + 'x' }}", "{% if %}", "{{ 1 + 'x' }}"):
        tokenizer.chat_template = broken
        with pytest.raises(PairError, match=r"of aligned refuses this conversation: [^\n]*$"):
            chat_encoder(tokenizer, "aligned")


def test_scorers_see_whole_conversations_too(tokenizer):
    talk = [USER, {"role": "assistant", "content": ""}]
    assert tokenizer.decode(chat_ids(tokenizer, "m", talk, ask=False)) == (
        "<|im_start|>user\nName a fruit.<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n"
    )
    assert tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer, "m")) == "<|im_end|>"
    tokenizer.chat_template = LOOP + PARTS + CLOSE
    assert "Name a fruit." in tokenizer.decode(chat_ids(tokenizer, "m", [USER], ask=True))
    tokenizer.chat_template = LOOP + CLOSE
    with pytest.raises(InputError, match="leaves out or changes"):
        chat_ids(tokenizer, "m", [USER], ask=True)
    tokenizer.chat_template = None
    with pytest.raises(InputError, match="has no chat template"):
        chat_ids(tokenizer, "m", [USER], ask=True)
