"""The methods that run on the engine, on a pair with random weights."""

from __future__ import annotations

import pytest
import torch

from baco.errors import InputError
from baco.methods.base import Chunk, Done, Task
from baco.methods.settings import make_setting
from baco.models.sides import Side
from baco.pair import Pair
from baco.partners.fake import FakePartner, fake_vocabulary
from baco.prompts import conversation_of

pytestmark = pytest.mark.costs

ASK = "What is the capital of France?"


def test_every_sample_is_the_same_whatever_is_made_beside_it(random_pair):
    options = {"router": "rand@0.5", "max_new_tokens": 25, "seed": 3}
    group = random_pair.generate(ASK, n=6, **options)
    assert random_pair.generate(ASK, n=2, **options).samples == group.samples[:2]
    many = random_pair.generate(["Hi", ASK, "Suggest a trip!"], n=6, **options)
    assert many[1].samples == group.samples
    assert [g.prompt for g in many] == ["Hi", ASK, "Suggest a trip!"]
    one_by_one = random_pair.generate(ASK, n=6, max_rows=1, lookahead="off", **options)
    assert one_by_one.samples == group.samples
    alone = [Task(conversation_of(ASK), 4)]
    (done,) = (u for u in random_pair.run(alone, make_setting(**options)) if isinstance(u, Done))
    assert done.sample == group[4]
    assert random_pair.generate(ASK, n=6, **{**options, "seed": 4}).texts != group.texts


def test_samples_are_what_they_say(random_pair):
    group = random_pair.generate(ASK, n=5, router="rand@0.5", max_new_tokens=20)
    assert [s.index for s in group] == list(range(5))
    for sample in group:
        assert sample.text == "".join(sample.tokens)
        assert len(sample.tokens) == len(sample.sources) == len(sample.token_ids) <= 20
        raw = b"".join(random_pair.token_bytes[i] for i in sample.token_ids)
        assert sample.text == raw.decode(errors="replace")
        assert sample.sources[0] == "aligned"
        assert set(sample.sources) <= {"base", "aligned"}
    assert 0 < group.base_share < 1
    assert group.stats.tokens == sum(len(s.token_ids) for s in group)


@pytest.mark.parametrize(("method", "side"), [("base", 0), ("aligned", 1)])
def test_one_model_alone(random_pair, method, side):
    group = random_pair.generate(ASK, n=2, method=method, temperature=0, max_new_tokens=5)
    conversation = conversation_of(ASK)
    ids = list(random_pair.prompt_ids(conversation)[side])
    partner = (random_pair.base, random_pair.aligned)[side]
    vocabulary = partner.vocabulary
    expected = []
    for _ in range(5):
        logits = partner.logits(ids)[: vocabulary.size].masked_fill(~vocabulary.allowed, -torch.inf)
        token = int(logits.argmax())
        if vocabulary.is_end[token]:
            break
        expected.append(token)
        ids.append(token)
    for sample in group:
        assert list(sample.token_ids) == expected
        assert set(sample.sources) <= {method}
        assert sample.base_share == (1.0 if method == "base" else 0.0)
        assert (sample.router, sample.gamma, sample.switches) == (None, None, 0)
    passes = (group.stats.base_passes, group.stats.aligned_passes)
    assert passes[1 - side] == 0
    assert passes[side] > 0
    assert group.cost[1 - side] == 0
    assert group.forwards_per_token == pytest.approx(1, rel=0.5)


def test_stop_strings_end_the_text_before_them(random_pair):
    whole = random_pair.generate(ASK, n=4, max_new_tokens=30)
    stop = whole[2].text[8:11]
    cut = random_pair.generate(ASK, n=4, max_new_tokens=30, stop=stop)
    assert cut.forwards_per_token is not None
    for before, after in zip(whole, cut, strict=True):
        at = before.text.find(stop)
        if at < 0:
            assert after == before
        else:
            assert after.text == before.text[:at]
            assert after.finish_reason == "stop_string"
            assert "".join(after.tokens) == after.text
            assert before.token_ids[: len(after.token_ids)] == after.token_ids
    assert cut[2].finish_reason == "stop_string"


def scripted_pair() -> Pair:
    """A pair whose models write "ab" and stop after any token with probability 1/4."""
    words = ["a", "b", " ", "<end>"]
    vocabulary = fake_vocabulary(words)
    partner = FakePartner(vocabulary, lambda ids: (0.25, 0.25, 0.25, 0.25))
    bytes_of = [word.encode() for word in words[:3]] + [b""]
    side = Side("scripted", partner, lambda _: (0,), lambda _: (0,), bytes_of)
    return Pair.from_sides("scripted", side, side)


def test_short_stops_are_drawn_again_a_bounded_number_of_times():
    pair = scripted_pair()
    first = pair.generate(ASK, n=40, method="aligned", top_p=1.0)
    again = pair.generate(ASK, n=40, method="aligned", top_p=1.0, restart_shorter_than=4)
    for before, after in zip(first, again, strict=True):
        assert before.finish_reason == "stop"
        assert (after.attempts > 1) == (len(before.token_ids) < 4)
        if after.attempts == 1:
            assert after == before
        elif after.attempts < 4:
            assert len(after.token_ids) >= 4
    assert {s.attempts for s in again} == {1, 2, 3, 4}
    assert any(len(s.token_ids) < 4 for s in again if s.attempts == 4)
    assert again.restarts == sum(s.attempts - 1 for s in again)
    assert f"{again.restarts} draws thrown away" in again.summary
    assert again.cost.aligned_passes > first.cost.aligned_passes


def test_streams_show_each_sample_exactly(random_pair):
    options = {"router": "rand@0.5", "max_new_tokens": 25, "stop": ["the"]}
    stream = random_pair.stream(ASK, n=3, **options)
    shown = {0: "", 1: "", 2: ""}
    sources: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for index, text, source in stream:
        shown[index] += text
        sources[index].append(source)
    group = stream.group
    assert group == random_pair.generate(ASK, n=3, **options)
    assert list(shown.values()) == group.texts
    assert [tuple(s) for s in sources.values()] == [s.sources for s in group]


def test_a_stream_that_is_left_early_can_still_be_finished(random_pair):
    stream = random_pair.stream(ASK, n=1, max_new_tokens=10)
    next(stream)
    assert len(stream.group) == 1


def test_nothing_of_a_thrown_away_draw_is_streamed():
    pair = scripted_pair()
    stream = pair.stream(ASK, n=20, method="aligned", top_p=1.0, restart_shorter_than=4)
    shown: dict[int, str] = dict.fromkeys(range(20), "")
    for index, text, _ in stream:
        shown[index] += text
    assert stream.group.restarts > 0
    assert list(shown.values()) == [sample.text for sample in stream.group]


def test_chunks_come_before_their_sample(random_pair):
    tasks = [Task(conversation_of(ASK), i) for i in range(3)]
    finished = set()
    for update in random_pair.run(tasks, make_setting(max_new_tokens=8)):
        if isinstance(update, Chunk):
            assert update.task not in finished
        elif isinstance(update, Done):
            finished.add(update.task)
    assert finished == {0, 1, 2}


def test_prompts_that_do_not_fit_are_named(random_pair):
    with pytest.raises(
        InputError, match=r"the prompt has \d+ tokens, the context window 512 \(pro"
    ):
        random_pair.generate("very " * 600)


def test_the_context_window_limits_the_answer(random_pair):
    group = random_pair.generate("x" * 380, n=1, method="aligned", max_new_tokens=512)
    assert len(group[0].token_ids) < 200


def test_the_judge_is_asked_about_its_prompt(random_folders):
    pair = Pair(*random_folders, device="cpu")
    asked = []

    def judge_of(conversation):
        asked.append(conversation[-1].content)
        return lambda emitted, base, aligned: len(emitted) % 2 == 0

    pair.judge = judge_of
    groups = pair.generate([ASK, "Hi"], n=2, router="judge", max_new_tokens=12)
    assert asked == [ASK, "Hi"]
    assert {source for group in groups for s in group for source in s.sources} == {
        "base",
        "aligned",
    }
    pair.judge = lambda _: lambda *_: False
    assert pair.generate(ASK, n=2, router="judge", max_new_tokens=12).base_share == 0


def test_diversity_needs_a_curve_but_for_its_ends(random_pair):
    with pytest.raises(InputError, match="'random' is not calibrated for router 'p'"):
        random_pair.generate(ASK, router="p", diversity=0.4)
    group = random_pair.generate(ASK, n=2, router="p", diversity=0, max_new_tokens=8)
    assert group == random_pair.generate(ASK, n=2, router="p@0", max_new_tokens=8)
    assert group.base_share == 0


@pytest.mark.parametrize("method", ["baco", "base", "aligned"])
def test_costs_of_samples_add_up_to_the_run(random_pair, method):
    options = {"method": method, "max_new_tokens": 20, "lookahead": 3}
    for rows in (256, 2):
        many = random_pair.generate([ASK, "Hi"], n=5, max_rows=rows, **options)
        stats = many[0].stats
        for field in ("base_token_rows", "aligned_token_rows", "tokens"):
            total = sum(getattr(group.cost, field) for group in many)
            assert total == getattr(stats, field), field
    # One row at a time, passes add up too, and every row reads its whole prompt.
    group = random_pair.generate(ASK, n=4, max_rows=1, **options)
    assert group.cost.base_passes == group.stats.base_passes
    assert group.cost.aligned_passes == group.stats.aligned_passes
    for side, name in enumerate(("base", "aligned")):
        size = len(random_pair.prompt_ids(conversation_of(ASK))[side])
        read = getattr(group.cost, f"{name}_prompt_tokens")
        assert read == (0 if method not in ("baco", name) else 4 * size)
        assert read <= getattr(group.cost, f"{name}_token_rows")
    # Together they share it.
    whole = random_pair.generate(ASK, n=4, **options)
    if method != "baco":
        assert getattr(whole.cost, f"{method}_prompt_tokens") == size_of(random_pair, method)


def size_of(pair: Pair, method: str) -> int:
    """Length of the prompt as the side reads it."""
    return len(pair.prompt_ids(conversation_of(ASK))[method == "aligned"])


@pytest.fixture(scope="module")
def tiny():
    import baco

    return baco.load("tiny")


SLEEPY = "Suggest a name for my sleepy dog."
"""The base model answers it in one line, and then asks a question of its own."""


def test_an_answer_ends_where_the_base_model_opens_another_turn(tiny):
    options = {"n": 12, "router": "p-punc@0.5", "max_new_tokens": 60}
    literal = tiny.generate(SLEEPY, turn_rule=False, **options)
    assert any("\n\n" in text for text in literal.texts)
    group = tiny.generate(SLEEPY, **options)
    assert not any("\n\n" in text for text in group.texts)
    assert {sample.finish_reason for sample in group} == {"stop"}
    same = [a == b for a, b in zip(group, literal, strict=True) if "\n" not in b.text]
    assert same
    assert all(same)


@pytest.mark.parametrize("method", ["base", "logit-ensemble", "nudging"])
def test_the_base_models_next_question_is_no_part_of_its_answer(tiny, method):
    options = {"n": 8, "method": method, "max_new_tokens": 60}
    if method == "logit-ensemble":
        options["control"] = 0.1
    literal = tiny.generate(SLEEPY, turn_rule=False, **options)
    group = tiny.generate(SLEEPY, **options)
    assert not any("\n\nQuestion:" in text for text in group.texts)
    assert method == "nudging" or any("\n\nQuestion:" in text for text in literal.texts)
    for cut, whole in zip(group, literal, strict=True):
        assert cut.text == whole.text.partition("\n\nQuestion:")[0]
        if cut.text != whole.text:
            assert cut.finish_reason == "stop"


def test_an_aligned_model_may_write_what_opens_a_turn(tiny):
    options = {"n": 2, "method": "aligned", "max_new_tokens": 40, "temperature": 1.8}
    assert (
        tiny.generate(SLEEPY, **options).texts
        == tiny.generate(SLEEPY, turn_rule=False, **options).texts
    )
