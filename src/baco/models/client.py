"""Asks an OpenAI-compatible server: several requests at a time, repeated, rate-limited."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from baco.errors import BacoError, InputError, PairError, missing_extra

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""HTTP statuses after which a request is worth repeating."""

LONGEST_WAIT = 60.0

T = TypeVar("T")
U = TypeVar("U")


class Refusal(PairError):
    """A server does not do what it was asked.

    Args:
        message: What is wrong.
        hint: How to mend it.
        status: The HTTP status.
        reason: What the server said.
    """

    def __init__(self, message: str, *, hint: str, status: int, reason: str) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason


class Limiter:
    """Lets so many requests a second begin, evenly spread.

    Args:
        per_second: Requests a second; None for no limit.
        clock: The time in seconds.
        sleep: Waits some seconds.
    """

    def __init__(
        self,
        per_second: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gap = 1 / per_second if per_second else 0.0
        self._clock, self._sleep = clock, sleep
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Returns when the next request may begin."""
        if not self._gap:
            return
        with self._lock:
            now = self._clock()
            begin = max(now, self._next)
            self._next = begin + self._gap
        if begin > now:
            self._sleep(begin - now)


class Client:
    """One server.

    Args:
        who: What it is called in messages, such as ``the base server``.
        url: Its base address, such as ``http://localhost:8000/v1``.
        key_env: Environment variable that holds the key; none is sent if it is not set.
        retries: How often a failed request is repeated.
        workers: Requests under way at once.
        timeout: Seconds to wait for a reply.
        pause: Seconds before the first repetition; doubled each time.
        per_second: Requests that may begin in a second; None for no limit.
        transport: A transport of httpx, for proxies and tests; None for the usual one.
        advice: What errors hint at where no answer came; None for what suits models.

    Attributes:
        requests: Requests that were answered.
    """

    def __init__(
        self,
        who: str,
        url: str,
        *,
        key_env: str = "OPENAI_API_KEY",
        retries: int = 4,
        workers: int = 8,
        timeout: float = 120.0,
        pause: float = 1.0,
        per_second: float | None = None,
        transport: Any = None,
        advice: str | None = None,
    ) -> None:
        self.who = f"{who} at {url}"
        self.requests = 0
        self._url = url.rstrip("/")
        self._key_env = key_env
        self._retries, self._pause = retries, pause
        self._advice = advice
        self._limiter = Limiter(per_second)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(workers)
        self._client = connect(key_env, timeout, transport)

    def over(self, function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
        """Applies a function to items, several at a time; yields the results in order."""
        waiting = [self._pool.submit(function, item) for item in items]
        try:
            for each in waiting:
                yield each.result()
        finally:
            for each in waiting:
                each.cancel()

    def map(self, function: Callable[[T], U], items: Iterable[T]) -> list[U]:
        """As `over`, but waits for all results."""
        return list(self.over(function, items))

    def close(self) -> None:
        """Waits for requests under way, and closes the connections."""
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def get(self, path: str) -> Any:
        """Asks for something that is there at once or not at all; nothing is repeated.

        Raises:
            BacoError: If the server cannot be reached, or refuses.
        """
        return self._ask("GET", path, None, 0)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Sends a request, again and again where that may help.

        Raises:
            BacoError: If there is no answer in the end, or the server refuses.
        """
        return self._ask("POST", path, body, self._retries)

    def _ask(self, how: str, path: str, body: Mapping[str, Any] | None, retries: int) -> Any:
        def send() -> Any:
            self._limiter.wait()
            return self._client.request(how, f"{self._url}/{path}", json=body)

        response, problem = persist(send, retries, self._pause)
        busy = False
        if response is not None:
            if response.status_code == 200:
                return self._read(response)
            if response.status_code not in AGAIN:
                raise self._refused(response.status_code, _reason(response))
            problem = f"status {response.status_code}: {_reason(response)}"
            busy = response.status_code == 429
        times = "1 attempt" if retries == 0 else f"{retries + 1} attempts"
        if busy:
            raise BacoError(
                f"{self.who} had no room in {times}: {problem}",
                hint=self._advice or "ask less at a time: fewer workers, or requests_per_second",
            )
        raise BacoError(
            f"{self.who} gave no answer in {times}: {problem}",
            hint=self._advice or "check that it runs, the address and the network",
        )

    def _read(self, response: Any) -> Any:
        try:
            made = response.json()
        except ValueError:
            made = None
        if not isinstance(made, dict):
            raise PairError(
                f"{self.who} does not speak the OpenAI format",
                hint="its address usually ends in /v1",
            )
        with self._lock:
            self.requests += 1
        return made

    def _refused(self, status: int, reason: str) -> Refusal:
        hint = "see the server's log"
        if status in (401, 403):
            hint = f"set {self._key_env} to a key that it takes"
        elif status == 404:
            hint = "check the model's name and the address, which usually ends in /v1"
        return Refusal(
            f"{self.who} refused: status {status}: {reason}",
            hint=hint,
            status=status,
            reason=reason,
        )


def connect(key_env: str, timeout: float, transport: Any = None) -> Any:
    """Makes an httpx client that sends the key, if there is one. Arguments as `Client`.

    Raises:
        BacoError: If httpx is not installed.
    """
    try:
        import httpx
    except ImportError as error:
        raise missing_extra("httpx", "remote") from error
    key = os.environ.get(key_env, "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(timeout=timeout, headers=headers, transport=transport)


def persist(send: Callable[[], Any], retries: int, pause: float) -> tuple[Any, str]:
    """Sends a request until another time would not help, or there were enough.

    Args:
        send: Sends it; returns httpx's response.
        retries: How often it is repeated at most.
        pause: Seconds before the first repetition; doubled each time.

    Returns:
        The last response, of whatever status; None, and what went wrong, if none came.
    """
    import httpx

    response, problem = None, ""
    for attempt in range(retries + 1):
        wait = pause * 2**attempt
        try:
            response = send()
        except httpx.HTTPError as error:
            response, problem = None, f"{type(error).__name__}: {error}"
        else:
            if response.status_code not in AGAIN:
                break
            wait = _seconds(response.headers.get("retry-after")) or wait
        if attempt < retries:
            time.sleep(min(wait, LONGEST_WAIT))
    return response, problem


def check_url(url: str, what: str) -> None:
    """Raises InputError if an address is none."""
    if not url.startswith(("http://", "https://")) or not url.partition("://")[2]:
        raise InputError(
            f"{what} {url!r} is no http address", hint="for example http://localhost:8000/v1"
        )


def _reason(response: Any) -> str:
    """What a server said of an error, in one line."""
    text = response.text
    try:
        made = response.json()
        error = made.get("error", made)
        text = str(error.get("message", text) if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        pass
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:197]}..."


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
