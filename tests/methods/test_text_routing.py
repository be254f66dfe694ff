"""Content routers on models that give text only, against scripted servers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from baco.engine.units import segment
from baco.errors import InputError, PairError, UnsupportedError
from baco.models.endpoint import Endpoint
from baco.pair import Pair
from baco.serve.pairs import check_pairs

pytestmark = pytest.mark.costs

ALIGNED = "The cat sat on the mat, and slept."
BASE = "A dog ran at my house while birds sang loudly"


@dataclass
class Writer:
    """Has one answer in mind, and goes on at the unit that the answer so far has reached."""

    mind: str
    chat: bool
    size: int = 3
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def endpoint(self, **options: Any) -> Endpoint:
        return Endpoint("http://fake/v1", "m", transport=httpx.MockTransport(self), **options)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(404)
        body = json.loads(request.content)
        self.bodies.append(body)
        if self.chat:
            last = body["messages"][-1]
            text = last["content"] if last["role"] == "assistant" else ""
        else:
            text = body["prompt"].partition("Answer:")[2].removeprefix(" ")
        done = len(segment(text))
        units = segment(self.mind)[done:]
        said = "".join(units[: self.size])
        finish = "stop" if len(units) <= self.size else "length"
        part = {"message": {"content": said}} if self.chat else {"text": said}
        return httpx.Response(200, json={"choices": [part | {"finish_reason": finish}]})


def pair(base: str = BASE, aligned: str = ALIGNED, size: int = 3) -> tuple[Pair, Writer, Writer]:
    writers = Writer(base, chat=False, size=size), Writer(aligned, chat=True, size=size)
    return Pair.remote(*(w.endpoint() for w in writers), name="text"), *writers


@pytest.mark.parametrize("size", [1, 2, 3, 99])
def test_punctuation_stays_with_the_aligned_model(size: int) -> None:
    made, base, aligned = pair(size=size)
    sample = made.generate("Hi?", n=1, router="punc")[0]
    # Unit by unit, aligned: The cat sat on the mat , and slept . <end>
    assert sample.text == "The dog ran at my house, birds sang."
    wanted = ["aligned", *["base"] * 5, "aligned", "base", "base", "aligned"]
    assert list(sample.sources) == wanted
    assert sample.finish_reason == "stop"
    assert "".join(sample.tokens) == sample.text
    assert sample.base_share == pytest.approx(7 / 10)
    assert sample.switches == 4
    assert sample.cost.base_passes == len(base.bodies)
    assert sample.cost.aligned_passes == len(aligned.bodies)
    assert base.bodies[0]["prompt"].endswith("Answer: The")
    assert aligned.bodies[-1]["continue_final_message"]
    assert made.stream("Hi?", router="punc").group.texts == [sample.text]


def test_function_words_stay_with_the_aligned_model() -> None:
    sample = pair()[0].generate("Hi?", n=1, router="fc")[0]
    # on, the, and are kept; the end is no function word, but base may not end: it goes on.
    assert sample.text == "The dog ran on the house while and sang loudly"
    assert sample.finish_reason == "stop"


def test_base_does_not_end_an_answer() -> None:
    sample = pair(base="A dog")[0].generate("Hi?", n=1, router="punc")[0]
    assert sample.text == "The dog sat on the mat, and slept."
    assert sample.sources.count("base") == 1


def test_limits_stop_strings_and_seeds() -> None:
    made, base, _ = pair()
    short = made.generate("Hi?", n=3, router="punc", max_new_tokens=4, temperature=0.5)
    assert short.texts == ["The dog ran at"] * 3
    assert {s.finish_reason for s in short} == {"length"}
    assert len({b["seed"] for b in base.bodies if b["prompt"].endswith("Answer: The")}) == 3
    assert base.bodies[0]["temperature"] == 0.5
    assert base.bodies[0]["top_p"] == 0.9
    cut = made.generate("Hi?", n=1, router="punc", stop=["an at", "n at"])[0]
    assert (cut.text, cut.finish_reason) == ("The dog r", "stop_string")
    assert "".join(cut.tokens) == cut.text
    assert len(cut.tokens) == len(cut.sources)


def test_what_needs_more_is_refused_before_anything_is_asked() -> None:
    made, *writers = pair()
    for router in ("p-punc", "rand", "h", "judge", "punc>p"):
        with pytest.raises(InputError, match=r"top-k.*routers that would do: punc, fc\)"):
            made.generate("Hi?", n=1, router=router)
    with pytest.raises(InputError, match=r"'base' needs base top-k.*would do: baco"):
        made.generate("Hi?", n=1, method="base")
    with pytest.raises(InputError, match="restart-shorter-than counts tokens"):
        made.generate("Hi?", n=1, router="punc", restart_shorter_than=3)
    with pytest.raises(UnsupportedError, match="gives text only"):
        check_pairs({"text": made})
    with pytest.raises(InputError, match="gives text only, and the other side does not"):
        Pair.remote(base=writers[0].endpoint(), aligned="some/model")
    assert not any(writer.bodies for writer in writers)


def test_a_server_that_writes_nothing() -> None:
    made, _, aligned = pair()
    aligned.size = 0
    with pytest.raises(PairError, match="wrote nothing and did not end the answer"):
        made.generate("Hi?", n=1, router="punc")


def test_a_prefill_is_continued() -> None:
    made, base, aligned = pair()
    talk = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "The cat"}]
    sample = made.generate(talk, n=1, router="punc")[0]
    assert aligned.bodies[0]["messages"][-1] == talk[-1]
    assert aligned.bodies[0]["continue_final_message"] is True
    assert len(aligned.bodies[0]["messages"]) == 2
    assert base.bodies[0]["prompt"] == "Question: Hi?\nAnswer: The cat sat"
    assert sample.text.startswith(" sat")
