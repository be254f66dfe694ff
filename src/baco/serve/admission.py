"""Who is served when: clients in turn, work beside the engines a little at a time."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from baco.serve.errors import ApiError

T = TypeVar("T")


class QueuePlace:
    """One request's place in the queue; `leave` gives back what it holds.

    Args:
        turns: The queue.
        client: Whose request it is.
        answers: Answers that are asked for.
    """

    def __init__(self, turns: Turns, client: str, answers: int) -> None:
        self.client = client
        self.answers = answers
        self.begun: Future[None] = Future()
        self._turns = turns

    async def turn(self) -> None:
        """Waits until it is this request's turn."""
        await asyncio.shield(asyncio.wrap_future(self.begun))  # it is not to be cancelled

    def finished(self, answers: int) -> None:
        """Tells of answers that are complete."""
        self._turns.release(self, answers)

    def leave(self) -> None:
        """Gives up the place; safe to call twice."""
        self._turns.release(self, self.answers)


class Turns:
    """Admission to one pair's engines.

    An engine takes rows as they come, so each client may have only as many in it or before it as
    are decoded at a time: another client's request then waits for a row or two, not for all that
    the first has asked for. The other requests of a client wait here for its own.

    Args:
        max_rows: Answers decoded at the same time.
        max_waiting: Answers that may wait, those of one client up to half of it.
    """

    def __init__(self, max_rows: int, max_waiting: int) -> None:
        self._max_rows = max_rows
        self._room = max_rows + max_waiting
        self._share = max_rows + max_waiting // 2
        self._lock = threading.Lock()
        self._asked: Counter[str] = Counter()
        self._begun: Counter[str] = Counter()
        self._queues: dict[str, deque[QueuePlace]] = {}

    def __len__(self) -> int:
        """Answers that are being written or wait."""
        with self._lock:
            return self._asked.total()

    def take(self, client: str, answers: int) -> QueuePlace:
        """Queues a request.

        One that is larger than the room is taken where there is no other; one answer for a client
        that has asked for nothing else always is, so that no others can lock it out.

        Args:
            client: Whose request it is.
            answers: Answers that are asked for.

        Raises:
            ApiError: 429 if too much waits, by all or by this client.
        """
        with self._lock:
            for held, most, who in (
                (self._asked.total(), self._room, ""),
                (self._asked[client], self._share, " of yours"),
            ):
                new = answers == 1 and not who and not self._asked[client]
                if held and held + answers > most and not new:
                    raise ApiError(
                        429,
                        f"{held} answers{who} are being written or wait already; try again soon",
                        code="queue_full",
                        retry_after=2,
                    )
            place = QueuePlace(self, client, answers)
            self._asked[client] += answers
            self._queues.setdefault(client, deque()).append(place)
            self._admit(client)
        return place

    def release(self, place: QueuePlace, answers: int) -> None:
        """Takes answers off a client's account."""
        with self._lock:
            answers = min(answers, place.answers)
            if not answers:
                return
            place.answers -= answers
            self._take_off(self._asked, place.client, answers)
            if place.begun.done():
                self._take_off(self._begun, place.client, answers)
            elif not place.answers:
                self._queues[place.client].remove(place)
            self._admit(place.client)

    def _admit(self, client: str) -> None:
        queue = self._queues.get(client, deque())
        while queue and self._begun[client] < self._max_rows:
            place = queue.popleft()
            self._begun[client] += place.answers
            place.begun.set_result(None)
        if not queue:
            self._queues.pop(client, None)

    @staticmethod
    def _take_off(account: Counter[str], client: str, answers: int) -> None:
        account[client] -= answers
        if not account[client]:
            del account[client]


class Aside:
    """Work that takes time, off the event loop: a few threads, and a bounded queue before them.

    Args:
        threads: How much is done at a time.
        waiting: How much may wait.
    """

    def __init__(self, threads: int, waiting: int) -> None:
        self._threads = ThreadPoolExecutor(threads, "baco-aside")
        self._lock = threading.Lock()
        self._free = threads + waiting

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Calls a function in a thread; one that has not begun is cancelled with the caller.

        Raises:
            ApiError: 429 if too much waits.
        """
        with self._lock:
            if not self._free:
                raise ApiError(
                    429, "too many requests are being read; try again soon", code="queue_full",
                    retry_after=2,
                )  # fmt: skip
            self._free -= 1
        work = self._threads.submit(function, *args)
        work.add_done_callback(self._done)
        return await asyncio.wrap_future(work)

    def _done(self, _: object) -> None:
        with self._lock:
            self._free += 1

    def close(self) -> None:
        """Drops what waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)
