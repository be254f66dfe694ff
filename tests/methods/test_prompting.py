"""Prompting methods: what the model is asked, how its replies are read, what failure looks like."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco.errors import InputError
from baco.methods import Done, Task, wording
from baco.methods.base import MAX_ASKS
from baco.methods.prompting import drawn
from baco.methods.settings import make_setting
from baco.models.sides import Side
from baco.pair import Pair
from baco.partners.fake import FakePartner, fake_vocabulary
from baco.prompts import Conversation, conversation_of

LETTERS = [chr(i) for i in range(32, 127)] + ["\n", "<end>"]
END = len(LETTERS) - 1
ASK = "Name a fruit."


class Scripted:
    """A pair whose aligned model replies to a conversation as a function says.

    Args:
        reply: Conversation -> the reply.
        luck: Probability that it follows its instructions; else it writes "no" and stops.
    """

    def __init__(self, reply: Callable[[Conversation], str], luck: float = 1.0, window=1 << 20):
        self.seen: list[Conversation] = []
        self.window = window
        vocabulary = fake_vocabulary(LETTERS)

        def next_letter(ids: tuple[int, ...]) -> list[float]:
            said = ids[len(self.encode(self.seen[ids[0]])) :]
            wanted = [LETTERS.index(c) for c in reply(self.seen[ids[0]])]
            probs = [0.0] * len(LETTERS)
            other = [LETTERS.index("n"), LETTERS.index("o")]
            for text, p in ((wanted, luck), (other, 1 - luck)):
                if list(said) == text[: len(said)] and p:
                    probs[text[len(said)] if len(said) < len(text) else END] += p
            return probs

        partner = FakePartner(vocabulary, next_letter, context_window=window)
        data = [c.encode() for c in LETTERS[:-1]] + [b""]
        side = Side("scripted", partner, self.encode, lambda _: (0,), data)
        self.pair = Pair.from_sides("scripted", side, side)

    def encode(self, conversation: Conversation) -> tuple[int, ...]:
        """One id that stands for the conversation, and as many more as it has letters."""
        if conversation not in self.seen:
            self.seen.append(conversation)
        return (self.seen.index(conversation),) + (0,) * sum(len(m.content) for m in conversation)


def made(pair: Pair, tasks: list[Task], **settings) -> list:
    run = pair.run(tasks, make_setting(**settings))
    done = {u.task: u.sample for u in run if isinstance(u, Done)}
    return [done[i] for i in range(len(tasks))]


def test_in_context_is_one_dialogue_that_grows():
    fruits = ["A plum.", "A pear.", "A fig."]
    model = Scripted(lambda c: fruits[len(c) // 2])
    group = model.pair.generate(ASK, n=3, method="in-context")
    assert group.texts == fruits
    assert [m.content for m in model.seen[-1]] == [
        ASK, "A plum.", wording.ANOTHER, "A pear.", wording.ANOTHER,
    ]  # fmt: skip
    assert [m.role for m in model.seen[-1]] == ["user", "assistant"] * 2 + ["user"]


def test_in_context_forgets_the_oldest_answers_where_they_no_longer_fit():
    model = Scripted(lambda c: f"A plum of {len(c)}.", window=300)
    group = model.pair.generate(ASK, n=8, method="in-context", max_new_tokens=30)
    forgotten = [(sample.details or {"forgotten": 0})["forgotten"] for sample in group]
    assert forgotten[0] == 0
    assert forgotten[-1] > 0
    assert forgotten == sorted(forgotten)
    assert all(sample.finish_reason == "stop" for sample in group)


def test_system_prompt_adds_to_a_system_message_or_makes_one():
    model = Scripted(lambda c: c[0].content[-20:])
    assert model.pair.generate(ASK, n=1, method="system-prompt").texts == [wording.BE_NOVEL[-20:]]
    assert model.seen[-1][0] == ("system", wording.BE_NOVEL)
    group = model.pair.generate(ASK, n=1, method="system-prompt", system="Be brief.")
    assert model.seen[-1][0] == ("system", f"Be brief.\n\n{wording.BE_NOVEL}")
    assert group.prompt == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ASK},
    ]


def test_paraphrases_of_the_data_set_come_first_and_the_model_writes_the_others():
    def reply(c: Conversation) -> str:
        if c[-1].content == wording.REWORD.format(request=ASK):
            return '  "Which fruit do you like?"\nI hope this helps.'
        return f"{c[-1].content} A plum."

    model = Scripted(reply)
    given_ = ("A fruit, please.", "Any fruit?")
    tasks = [Task(conversation_of(ASK), i, given_) for i in range(3)]
    samples = made(model.pair, tasks, method="paraphrase", n=3)
    words = [*given_, "Which fruit do you like?"]
    assert [s.details for s in samples] == [{"paraphrase": w} for w in words]
    assert [s.text for s in samples] == [f"{w} A plum." for w in words]
    assert {s.prompt for s in samples} == {ASK}
    assert samples[2].cost.tokens > len(samples[2].token_ids)
    assert samples[1].cost.tokens == len(samples[1].token_ids)


def test_a_paraphrase_that_never_comes_is_a_sample_that_failed():
    model = Scripted(lambda c: "" if "other words" in c[-1].content else "A plum.")
    group = model.pair.generate(ASK, n=2, method="paraphrase")
    assert [(s.text, s.finish_reason, s.attempts) for s in group] == [("", "failed", MAX_ASKS)] * 2
    assert group.prompt == ASK


def test_string_seed_gives_the_answer_alone():
    model = Scripted(lambda c: "<string>x7$k</string>\n<answer> A plum. </answer>\n")
    (sample,) = model.pair.generate(ASK, n=1, method="string-seed", max_new_tokens=20)
    assert sample.text == "A plum."
    assert "".join(sample.tokens) == "A plum."
    assert sample.details == {"string": "x7$k"}
    assert sample.cost.tokens > 20
    assert ASK in model.seen[-1][-1].content
    (cut,) = model.pair.generate(ASK, n=1, method="string-seed", stop="<", max_new_tokens=20)
    assert cut.text == "A plum."
    (cut,) = model.pair.generate(ASK, n=1, method="string-seed", stop="lum")
    assert (cut.text, cut.finish_reason) == ("A p", "stop_string")
    (cut,) = model.pair.generate(ASK, n=1, method="string-seed", max_new_tokens=3)
    assert (cut.text, cut.finish_reason, len(cut.token_ids)) == ("A p", "length", 3)


def test_what_cannot_be_read_is_asked_for_again_a_bounded_number_of_times():
    model = Scripted(lambda c: "<string>x</string><answer>A plum.</answer>", luck=0.1)
    group = model.pair.generate(ASK, n=16, method="string-seed", top_p=1)
    assert {s.text for s in group} == {"A plum.", ""}
    for sample in group:
        assert (sample.text == "") == (sample.finish_reason == "failed")
        assert 1 <= sample.attempts <= MAX_ASKS
        assert sample.attempts == MAX_ASKS or sample.text
    assert len({s.attempts for s in group}) > 2
    assert f"{group.restarts} draws thrown away" in group.summary
    assert group.cost.tokens == group.stats.tokens


def listed(*answers: tuple[str, str]) -> str:
    return "\n".join(f'<answer probability="{p}">{a}</answer>' for a, p in answers)


def test_verbalized_draws_a_group_from_one_response():
    fruits = ["A plum.", "A pear.", "A fig.", "A date.", "A lime.", "A kiwi."]
    weights = ["0.5", "0.3", "0.1", ".05", "0.05", "0"]
    model = Scripted(lambda c: listed(*zip(fruits, weights, strict=True)))
    group = model.pair.generate(ASK, n=6, method="verbalized", max_new_tokens=30)
    assert sorted(group.texts) == sorted(fruits)
    assert group[5].text == "A kiwi."  # probability 0 comes last
    for sample in group:
        place = sample.details["place"]
        assert sample.text == fruits[place]
        assert sample.details["probability"] == float(weights[place])
    assert len(model.seen) == 1
    assert "Give 6 different answers" in model.seen[0][-1].content
    other = model.pair.generate(ASK, n=6, method="verbalized", max_new_tokens=30, seed=2)
    assert other.texts != group.texts


def test_verbalized_draws_by_the_probabilities():
    answers = [("A plum.", "0.7"), ("A pear.", "0.2"), ("A fig.", "0.1"), ("x", "0"), ("y", "0")]
    model = Scripted(lambda c: listed(*answers))
    response = model.pair.generate(ASK, n=1, method="aligned")[0]
    prompt = conversation_of(ASK)
    first = []
    for seed in range(1000):
        setting = make_setting(method="verbalized", n=1, seed=seed)
        first.append(drawn(response, prompt, 5, setting)[0].text)
    assert first.count("A plum.") == pytest.approx(700, abs=60)
    assert first.count("A fig.") == pytest.approx(100, abs=40)
    assert set(first) == {"A plum.", "A pear.", "A fig."}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A plum.",
        listed(("A plum.", "0.5")),
        listed(("A plum.", "0.5"), ("A pear.", "1.5")),
        listed(("A plum.", "0"), ("A pear.", "0")),
        listed(("A plum.", "0.5"), ("A pear.", "-1")),
        listed(("A plum.", "0.5"), ("", "0.5")),
        listed(("A plum.", "0.5"), ("A pear.", "0.4")) + " I hope this helps.",
        "Sure! " + listed(("A plum.", "0.5"), ("A pear.", "0.4")),
        '<answer probability="0.5"><answer probability="0.5">x</answer>\n'
        '<answer probability="0.5">y</answer>',
    ],
)
def test_verbalized_takes_no_other_form(text):
    assert wording.weighed(text, 2) is None


def test_verbalized_that_fails_is_a_group_of_failures():
    model = Scripted(lambda c: "A plum.")
    group = model.pair.generate(ASK, n=3, method="verbalized")
    assert [(s.index, s.text, s.finish_reason) for s in group] == [
        (i, "", "failed") for i in range(3)
    ]
    assert group.cost.tokens == group.stats.tokens == MAX_ASKS * len("A plum.")


@given(st.text(max_size=60))
def test_readers_never_take_what_is_not_there(text):
    for find in (wording.reworded, wording.seeded):
        found = find(text)
        if found:
            assert 0 <= found.start < found.end <= len(text)
            assert text[found.start : found.end].strip()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Which fruit?", "Which fruit?"),
        ("\n “Which fruit?” \nSure.", "Which fruit?"),
        ('"', '"'),
        ('""', None),
        ("  \n ", None),
    ],
)
def test_paraphrases_are_one_line_without_quotation_marks(text, found):
    where = wording.reworded(text)
    assert (where and text[where.start : where.end]) == found


@pytest.mark.parametrize("method", ["in-context", "paraphrase", "verbalized", "string-seed"])
def test_methods_that_ask_in_other_words_need_a_question(method: str) -> None:
    model = Scripted(lambda c: "x")
    talk = [{"role": "user", "content": ASK}, {"role": "assistant", "content": "A"}]
    with pytest.raises(InputError, match="does not end with the user"):
        model.pair.generate(talk, n=2, method=method)
