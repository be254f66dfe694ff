"""The real openai client for Python against a real server."""

from __future__ import annotations

import math

import pytest

from baco.pair import Pair

openai = pytest.importorskip("openai", reason="needs the package openai")

pytestmark = pytest.mark.costs

ASK = [{"role": "user", "content": "Name a city in Italy."}]


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=300, max_retries=0)


def test_chat_gives_what_the_pair_itself_generates(client: openai.OpenAI, pair: Pair) -> None:
    answer = client.chat.completions.create(
        model="toy", messages=ASK, n=3, seed=5, max_tokens=12, extra_body={"gamma": 0.2}
    )
    group = pair.generate("Name a city in Italy.", n=3, seed=5, max_new_tokens=12, gamma=0.2)
    assert [c.message.content for c in answer.choices] == [sample.text for sample in group]
    assert [c.finish_reason for c in answer.choices] == [s.finish_reason for s in group]
    assert [tuple(c.baco["sources"]) for c in answer.choices] == [s.sources for s in group]
    assert answer.baco["base_share"] == pytest.approx(group.base_share)
    assert answer.baco["switches"] == pytest.approx(group.switches)
    assert answer.baco["seed"] == 5
    assert answer.usage.completion_tokens == sum(len(s.token_ids) for s in group)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_stream_gives_the_same_as_no_stream(client: openai.OpenAI) -> None:
    ask = {
        "model": "toy", "messages": ASK, "n": 3, "seed": 7, "max_tokens": 10,
        "logprobs": True, "top_logprobs": 2, "extra_body": {"diversity": 0.5},
    }  # fmt: skip
    whole = client.chat.completions.create(**ask)
    texts, scores, finishes = ["", "", ""], [[], [], []], [None] * 3
    usage = None
    for chunk in client.chat.completions.create(
        **ask, stream=True, stream_options={"include_usage": True}
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.logprobs:
                scores[choice.index] += choice.logprobs.content
            finishes[choice.index] = choice.finish_reason or finishes[choice.index]
    assert texts == [c.message.content for c in whole.choices]
    assert finishes == [c.finish_reason for c in whole.choices]
    assert usage == whole.usage
    for mine, choice in zip(scores, whole.choices, strict=True):
        assert [s.token for s in mine] == [s.token for s in choice.logprobs.content]
        assert [s.logprob for s in mine] == pytest.approx(
            [s.logprob for s in choice.logprobs.content], abs=1e-9
        )


def test_logprobs_are_those_of_the_model_that_wrote(client: openai.OpenAI, pair: Pair) -> None:
    import torch

    from baco.prompts import conversation_of

    answer = client.chat.completions.create(
        model="toy", messages=ASK, seed=2, max_tokens=8, logprobs=True, top_logprobs=3,
        extra_body={"router": "rand@0.5"},
    )  # fmt: skip
    (choice,) = answer.choices
    group = pair.generate(ASK[0]["content"], n=1, seed=2, max_new_tokens=8, router="rand@0.5")
    prompts = dict(
        zip(("base", "aligned"), pair.prompt_ids(conversation_of(ASK[0]["content"])), strict=True)
    )
    assert {"base", "aligned"} == set(group[0].sources)
    for t, (token, source) in enumerate(zip(group[0].token_ids, group[0].sources, strict=True)):
        partner = getattr(pair, source)
        logits = partner.logits((*prompts[source], *group[0].token_ids[:t]))
        expected = float(torch.log_softmax(logits.double(), -1)[token])
        said = choice.logprobs.content[t]
        assert said.logprob == pytest.approx(expected, abs=1e-4)
        assert len(said.top_logprobs) == 3
        assert said.top_logprobs[0].logprob >= said.logprob - 1e-6
        assert math.exp(said.top_logprobs[0].logprob) <= 1


def test_same_seed_same_text_and_no_seed_is_reported(client: openai.OpenAI) -> None:
    def text(**more: object) -> tuple[str, int]:
        answer = client.chat.completions.create(
            model="toy:diverse", messages=ASK, max_tokens=10, **more
        )
        return answer.choices[0].message.content, answer.baco["seed"]

    assert text(seed=3) == text(seed=3)
    free, seed = text()
    assert text(seed=seed) == (free, seed)
    assert len({text(seed=i)[0] for i in range(6)}) > 1


def test_stop_strings_end_answers(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="toy", messages=ASK, seed=4, max_tokens=30)
    text = whole.choices[0].message.content
    stop = text[8:11]
    cut = client.chat.completions.create(
        model="toy", messages=ASK, seed=4, max_tokens=30, stop=["\x00never", stop]
    )
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].baco["finish"] == "stop_string"
    assert cut.choices[0].baco["forwards_per_token"] > 0
    streamed = client.chat.completions.create(
        model="toy", messages=ASK, seed=4, max_tokens=30, stop=stop, stream=True
    )
    parts = [c.delta.content or "" for chunk in streamed for c in chunk.choices]
    assert "".join(parts) == text[: text.index(stop)]


def test_completions_of_several_prompts_with_logprobs(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="toy", prompt=["One city", "Once"], n=2, seed=1, max_tokens=6, logprobs=2
    )
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]
    for choice in answer.choices:
        assert "".join(choice.baco["tokens"]) == choice.text
        assert len(choice.logprobs.token_logprobs) == 6
        assert choice.logprobs.text_offset[0] == 0
    again = client.completions.create(
        model="toy", prompt=["Once"], n=2, seed=1, max_tokens=6, stream=True
    )
    texts = ["", ""]
    for chunk in again:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [c.text for c in answer.choices[2:]]


def test_completions_take_token_ids(client: openai.OpenAI, pair: Pair) -> None:
    ids = list(pair.text_ids("One city")[1])
    answer = client.completions.create(model="toy", prompt=ids, max_tokens=4)
    assert answer.usage.prompt_tokens == len(ids)


def test_single_models_are_who_they_say(client: openai.OpenAI) -> None:
    for method in ("base", "aligned"):
        answer = client.chat.completions.create(
            model="toy", messages=ASK, max_tokens=6, seed=1, extra_body={"method": method}
        )
        assert set(answer.choices[0].baco["sources"]) == {method}


def test_conversations_with_a_system_prompt(client: openai.OpenAI) -> None:
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Name a city."}]},
        {"role": "assistant", "content": "Rome."},
        {"role": "user", "content": "Another one."},
    ]
    short = client.chat.completions.create(model="toy", messages=talk[1:2], max_tokens=3)
    long = client.chat.completions.create(model="toy", messages=talk, max_completion_tokens=3)
    assert long.usage.prompt_tokens > short.usage.prompt_tokens


def test_restarts_do_not_give_short_answers(client: openai.OpenAI, pair: Pair) -> None:
    ask = {"n": 8, "seed": 1, "max_tokens": 40}
    extra = {"restart_shorter_than": 12, "gamma": 0.1}
    answer = client.chat.completions.create(model="toy", messages=ASK, **ask, extra_body=extra)
    group = pair.generate(
        ASK[0]["content"], n=8, seed=1, max_new_tokens=40, gamma=0.1, restart_shorter_than=12
    )
    assert [c.message.content for c in answer.choices] == [sample.text for sample in group]
    assert [c.baco["attempts"] for c in answer.choices] == [s.attempts for s in group]


def test_models_and_presets(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names[:2] == ["toy", "toy:aligned"]
    assert client.models.retrieve("toy:0.6").baco["diversity"] == 0.6
    answer = client.chat.completions.create(model="toy:0.6", messages=ASK, max_tokens=3)
    assert answer.baco["diversity"]["asked"] == 0.6
    zero = client.chat.completions.create(model="toy:aligned", messages=ASK, max_tokens=20, seed=1)
    assert zero.baco["base_share"] == 0


def test_errors_are_of_the_right_class(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="toys"):
        client.chat.completions.create(model="toys", messages=ASK)
    with pytest.raises(openai.BadRequestError, match="out of range") as caught:
        client.chat.completions.create(model="toy", messages=ASK, extra_body={"gamma": 7})
    assert caught.value.body["type"] == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="context window") as caught:
        client.chat.completions.create(
            model="toy", messages=[{"role": "user", "content": "word " * 600}]
        )
    assert caught.value.code == "context_length_exceeded"
