"""Turns: counted in answers and requests, never in seconds."""

from __future__ import annotations

import asyncio
import threading

import pytest

from baco.serve.admission import Aside, Turns
from baco.serve.errors import ApiError


def test_one_client_keeps_no_other_waiting() -> None:
    turns = Turns(max_rows=4, max_waiting=1000)
    many = [turns.take("a", 1) for _ in range(400)]
    large = turns.take("b", 300)
    assert [place.begun.done() for place in many[:6]] == [True] * 4 + [False] * 2
    assert large.begun.done()
    small = turns.take("c", 1)
    assert small.begun.done()
    assert not turns.take("b", 1).begun.done()
    many[0].finished(1)
    assert many[4].begun.done()
    assert not many[5].begun.done()


def test_a_client_is_bounded_before_all_are() -> None:
    turns = Turns(max_rows=4, max_waiting=8)
    turns.take("a", 8)
    with pytest.raises(ApiError, match="8 answers of yours") as caught:
        turns.take("a", 1)
    assert (caught.value.status, caught.value.retry_after) == (429, 2)
    turns.take("b", 4)
    with pytest.raises(ApiError, match="12 answers are"):
        turns.take("c", 2)


def test_one_answer_is_always_taken_of_a_client_that_waits_for_none() -> None:
    turns = Turns(max_rows=4, max_waiting=8)
    for client in "ab":
        turns.take(client, 6)
    with pytest.raises(ApiError, match="12 answers are"):
        turns.take("c", 2)
    place = turns.take("c", 1)
    assert place.begun.done()
    with pytest.raises(ApiError):
        turns.take("c", 1)
    place.leave()
    assert turns.take("c", 1).begun.done()


def test_a_request_larger_than_the_room_is_taken_where_there_is_no_other() -> None:
    turns = Turns(max_rows=2, max_waiting=0)
    place = turns.take("a", 50)
    assert place.begun.done()
    place.leave()
    place.leave()
    assert len(turns) == 0
    assert turns.take("b", 3).begun.done()


def test_who_leaves_gives_everything_back() -> None:
    turns = Turns(max_rows=2, max_waiting=100)
    places = [turns.take("a", 2) for _ in range(5)]
    places[3].leave()  # one that waits
    places[0].finished(1)
    assert places[1].begun.done()
    places[0].leave()
    assert [p.begun.done() for p in places] == [True, True, False, False, False]
    for place in places:
        place.leave()
    assert len(turns) == 0
    assert not turns._queues
    assert not turns._begun


def test_work_aside_is_bounded_and_what_has_not_begun_is_cancelled() -> None:
    go_on = threading.Event()
    done: list[int] = []

    def work(number: int) -> int:
        go_on.wait(60)
        done.append(number)
        return number

    async def scenario() -> None:
        aside = Aside(threads=1, waiting=2)
        tasks = [asyncio.ensure_future(aside.run(work, i)) for i in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as caught:
            await aside.run(work, 3)
        assert caught.value.status == 429
        tasks[1].cancel()
        await asyncio.wait({tasks[1]})
        go_on.set()
        assert await tasks[0] == 0
        assert await tasks[2] == 2
        assert await aside.run(work, 4) == 4
        aside.close()

    asyncio.run(scenario())
    assert done == [0, 2, 4]
