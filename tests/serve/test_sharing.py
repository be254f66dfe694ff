"""Many clients on one engine: each gets what it gets alone; leaving frees rows; memory is flat."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from baco.serve.service import Service

pytestmark = pytest.mark.costs

CHAT = "/v1/chat/completions"
TOPICS = ("city", "river", "song", "dish", "book", "bird")


def request(seed: int) -> dict[str, Any]:
    """A request whose settings follow from its number."""
    rng = random.Random(seed)
    out: dict[str, Any] = {
        "model": "toy",
        "messages": [{"role": "user", "content": f"Name a {rng.choice(TOPICS)}."}],
        "n": rng.randint(1, 3),
        "max_tokens": rng.randint(2, 14),
        "seed": seed,
        "temperature": rng.choice([0, 0.7, 1.0, 1.3]),
        "top_p": rng.choice([0.5, 0.9, 1.0]),
    }
    how = rng.randrange(6)
    if how == 0:
        out["method"] = rng.choice(["base", "aligned", "nudging", "contrastive", "xtc"])
    elif how == 1:
        out["router"] = "rand@0.5"
    elif how == 2:
        out |= {"router": rng.choice(["p", "h", "pr"]), "diversity": rng.choice([0.25, 0.5])}
    elif how == 3:
        out["stop"] = ["e", "an"]
    elif how == 4:
        out |= {"logprobs": True, "top_logprobs": 1}
    else:
        out["gamma"] = rng.choice([0.05, 0.1, 0.3])
    more: tuple[dict[str, Any], ...] = (
        {},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.5, "presence_penalty": -0.5},
        {"logit_bias": {"40": 3, "41": -100}, "dry_multiplier": 1.5, "dry_allowed_length": 1},
        {"distinct": True, "n": 3, "max_tokens": 3},
    )
    out |= rng.choice(more)
    if out.get("method") not in ("xtc", "nudging") and rng.random() < 0.25:
        out |= {"xtc_probability": 0.5, "xtc_threshold": 0.01}
    return out


def texts(body: dict[str, Any]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [
        (c["message"]["content"], c["finish_reason"], tuple(c["baco"]["sources"]))
        for c in body["choices"]
    ]


def streamed(lines: list[str]) -> list[tuple[str, str, tuple[str, ...]]]:
    """As `texts`, of a stream."""
    found: dict[int, tuple[str, str, tuple[str, ...]]] = {}
    for line in lines:
        if line.startswith("data: {"):
            body = json.loads(line[6:])
            assert "error" not in body, line
            for choice in body["choices"]:
                text, _, sources = found.get(choice["index"], ("", "", ()))
                text += choice["delta"].get("content", "")
                sources += tuple(choice.get("baco", {}).get("sources", ()))
                found[choice["index"]] = (text, choice["finish_reason"], sources)
    assert lines[-2:] == ["data: [DONE]", ""]
    return [found[i] for i in range(len(found))]


def live(app: FastAPI) -> int:
    """Rows that the engines hold, as their thread sees it after all commands so far."""
    service: Service = app.state.service
    host = service.hosts["toy"]
    assert host.open_rows >= 0
    return host.worker.ask(lambda w: w.live).result(300)


def test_64_clients_with_mixed_settings_get_what_they_get_alone(app: FastAPI, url: str) -> None:
    """Routers, methods, penalties, distinct answers, log-probabilities; every third a stream."""

    async def together() -> list[list[tuple[str, str, tuple[str, ...]]]]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
            answers = await asyncio.gather(
                *(
                    client.post(CHAT, json=request(seed) | {"stream": seed % 3 == 0})
                    for seed in range(64)
                )
            )
        assert all(a.status_code == 200 for a in answers), [a.text for a in answers][:3]
        return [
            texts(a.json()) if seed % 3 else streamed(a.text.split("\n\n"))
            for seed, a in enumerate(answers)
        ]

    shared = asyncio.run(together())
    with httpx.Client(base_url=url, timeout=300) as client:
        for seed, wanted in enumerate(shared):
            if seed % 2 == 0:  # each kind of setting, several times, streams among them
                assert texts(client.post(CHAT, json=request(seed)).json()) == wanted, seed
    assert live(app) == 0


def test_sudden_disconnects_leave_no_row_behind(app: FastAPI, url: str) -> None:
    count = int(os.environ.get("BACO_TEST_DISCONNECTS", "40"))

    async def leave(client: httpx.AsyncClient, number: int) -> None:
        body = {**request(number), "max_tokens": 400, "n": 2, "stream": number % 3 != 0}
        if number % 3 == 0:  # in the middle of waiting for a whole answer
            with contextlib.suppress(httpx.ReadTimeout):  # a short answer may still come
                await client.post(CHAT, json=body, timeout=httpx.Timeout(300, read=0.05))
        elif number % 3 == 1:  # in the middle of a stream
            async with client.stream("POST", CHAT, json=body) as events:
                async for _ in events.aiter_bytes():
                    break
        else:  # before reading anything
            async with client.stream("POST", CHAT, json=body):
                pass

    async def all_leave() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=300) as client:
            for start in range(0, count, 20):
                batch = range(start, min(start + 20, count))
                await asyncio.gather(*(leave(client, i) for i in batch))

    asyncio.run(all_leave())
    service: Service = app.state.service
    host = service.hosts["toy"]

    async def settled() -> None:
        while host.open_rows:  # the server notices a closed socket when it gets to it
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(settled(), 300))
    assert live(app) == 0
    assert service.telemetry.disconnects._value.get() > 0
    assert httpx.post(url + CHAT, json=request(1), timeout=300).status_code == 200


@pytest.mark.slow
def test_memory_stays_flat(app: FastAPI, url: str) -> None:
    """A short soak; `benchmarks/serve.py soak` runs the long one."""
    psutil = pytest.importorskip("psutil", reason="needs the package psutil")
    process = psutil.Process()

    async def soak(start: int, count: int) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=300) as client:
            for first in range(start, start + count, 16):
                bodies = [{**request(i), "max_tokens": 3} for i in range(first, first + 16)]
                for body in bodies:
                    body.pop("logprobs", None)
                    body.pop("top_logprobs", None)
                answers = await asyncio.gather(*(client.post(CHAT, json=b) for b in bodies))
                assert all(a.status_code == 200 for a in answers)

    asyncio.run(soak(0, 320))
    gc.collect()
    before = process.memory_info().rss
    asyncio.run(soak(320, 320))
    gc.collect()
    grown = process.memory_info().rss / before - 1
    assert grown < 0.02, f"grew by {grown:.1%} over 320 requests"
