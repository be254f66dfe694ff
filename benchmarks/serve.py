"""The server under load: `python -m benchmarks.serve throughput|soak|disconnects`.

The server runs in a process of its own and so do the clients; their shares of the CPU are stated,
because on a small machine all of them compete.

* throughput: 16 clients against the engine's own batches, the same work, on the bundled pair with
  ballast (MLPs widened by units that add nothing: the same tokens at a real model's cost);
* soak: short requests with mixed settings; memory per 1,000 requests after a warm-up;
* disconnects: clients that vanish at awkward moments; rows that are left.

Each keeps its figures in `benchmarks/results/serve-NAME.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import socket
import statistics
import time
from typing import Any

import httpx
import psutil
import torch

import baco
from baco.engine import Engine, Request
from baco.engine.noise import row_key
from baco.pair import Pair
from baco.prompts import conversation_of
from baco.routers import parse
from baco.tiny.world import prompts
from benchmarks.record import keep

CHAT = "/v1/chat/completions"


def ballast(pair: Pair, width: int) -> None:
    """Widens every MLP to `width` units; the new ones' outputs are multiplied by zero."""
    for partner in (pair.base, pair.aligned):
        for layer in partner.model.model.layers:  # type: ignore[attr-defined]
            mlp = layer.mlp
            for name in ("gate_proj", "up_proj", "down_proj"):
                old = getattr(mlp, name).weight.data
                out = name == "down_proj"
                shape = (old.shape[0], width) if out else (width, old.shape[1])
                new = torch.zeros(shape) if out else torch.randn(shape) * 0.02
                new[: old.shape[0], : old.shape[1]] = old
                getattr(mlp, name).weight = torch.nn.Parameter(new, requires_grad=False)


def load(width: int, name: str = "tiny") -> Pair:
    """Loads a pair; the bundled one with ballast if a width is given."""
    pair = baco.load(name)
    if width:
        ballast(pair, width)
    return pair


def serve(port: int, width: int, threads: int, name: str) -> None:
    """Runs the server; whatever the pair, clients call it tiny."""
    import uvicorn

    from baco.serve import Settings, create_app

    torch.set_num_threads(threads)
    app = create_app({"tiny": load(width, name)}, Settings(max_rows=64, max_waiting=4096))
    uvicorn.run(app, port=port, log_level="warning", access_log=False)


class Server:
    """A server in a process of its own."""

    def __init__(self, width: int, threads: int, name: str = "tiny") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=serve, args=(self.port, width, threads, name))

    def __enter__(self) -> Server:
        self._process.start()
        self.url = f"http://127.0.0.1:{self.port}"
        until = time.monotonic() + 300
        while time.monotonic() < until:
            try:
                httpx.get(f"{self.url}/health", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.2)
        self.process = psutil.Process(self._process.pid)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join(30)

    def figure(self, name: str) -> float:
        """Reads one figure of /metrics."""
        text = httpx.get(f"{self.url}/metrics", timeout=60).text
        line = next(line for line in text.splitlines() if line.startswith(name))
        return float(line.rsplit(" ", 1)[1])


def work(count: int) -> list[dict[str, Any]]:
    """The requests of the throughput run."""
    asked = [prompt.text for prompt in prompts("heldout")]
    return [
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": asked[i % len(asked)]}],
            "max_tokens": 48,
            "seed": i,
            "gamma": 0.3,
        }
        for i in range(count)
    ]


def engine_alone(pair: Pair, bodies: list[dict[str, Any]], rows: int) -> tuple[int, float]:
    """Decodes the same work in the engine's own batches; returns tokens and seconds."""
    engine = Engine(pair.base, pair.aligned, max_rows=rows)
    for body in bodies:
        text = body["messages"][0]["content"]
        base, aligned = pair.prompt_ids(conversation_of(text))
        engine.submit(
            Request(
                base_prompt=base,
                aligned_prompt=aligned,
                router=parse("p-punc", body["gamma"]),
                key=row_key(body["seed"], text, 0),
                max_new_tokens=body["max_tokens"],
                turn_rule=True,  # as of every answer that the server gives
            )
        )
    start = time.perf_counter()
    while not engine.idle:
        engine.step()
    return engine.stats.tokens, time.perf_counter() - start


async def ask_all(url: str, bodies: list[dict[str, Any]], clients: int) -> int:
    """Lets some clients ask one after the other; returns the tokens."""
    waiting = iter(bodies)
    tokens = 0

    async def client(session: httpx.AsyncClient) -> None:
        nonlocal tokens
        for body in waiting:
            answer = await session.post(CHAT, json=body)
            answer.raise_for_status()
            tokens += answer.json()["usage"]["completion_tokens"]

    async with httpx.AsyncClient(base_url=url, timeout=600) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return tokens


def throughput(args: argparse.Namespace) -> None:
    """16 clients against the engine's own batches, alternating, in one run."""
    torch.set_num_threads(args.threads)
    pair = load(args.width)
    bodies = work(args.requests)
    engine_alone(pair, bodies[:16], 16)
    rounds: list[dict[str, float]] = []
    with Server(args.width, args.threads) as server:
        asyncio.run(ask_all(server.url, bodies[:16], 16))
        for _ in range(args.repeats):
            tokens, seconds = engine_alone(pair, bodies, args.clients)
            mine = psutil.Process()
            cpu, theirs = sum(mine.cpu_times()[:2]), sum(server.process.cpu_times()[:2])
            start = time.perf_counter()
            served = asyncio.run(ask_all(server.url, bodies, args.clients))
            took = time.perf_counter() - start
            cpu = sum(mine.cpu_times()[:2]) - cpu
            theirs = sum(server.process.cpu_times()[:2]) - theirs
            rounds.append(
                {
                    "engine_tokens_per_second": tokens / seconds,
                    "server_tokens_per_second": served / took,
                    "ratio": served / took / (tokens / seconds),
                    "clients_share_of_cpu": cpu / (cpu + theirs),
                }
            )
            print(
                f"engine {tokens / seconds:7.1f} tokens/s   server {served / took:7.1f} tokens/s   "
                f"ratio {rounds[-1]['ratio']:.2f}   "
                f"clients' share of the CPU {cpu / (cpu + theirs):.1%}",
                flush=True,
            )
    ratio = statistics.median(one["ratio"] for one in rounds)
    print(f"median ratio {ratio:.2f} (target: at least 0.8)")
    keep("serve-throughput", {**settings_of(args), "rounds": rounds, "ratio": ratio})


def mixed(seed: int) -> dict[str, Any]:
    """A short request whose settings follow from its number."""
    rng = random.Random(seed)
    body = work(1)[0] | {"max_tokens": rng.randint(1, 6), "seed": seed, "n": rng.randint(1, 2)}
    body["gamma"] = rng.choice([0.1, 0.3, 0.5, 0.7])
    body["temperature"] = rng.choice([0, 0.8, 1.0])
    body["stream"] = False
    return body


def soak(args: argparse.Namespace) -> None:
    """Short requests; memory per 1,000 of them."""
    with Server(0, args.threads, args.pair) as server:
        asyncio.run(ask_all(server.url, [mixed(i) for i in range(args.warmup)], 16))
        sizes = [server.process.memory_info().rss]
        for start in range(0, args.requests, args.every):
            numbers = range(start, min(start + args.every, args.requests))
            bodies = [mixed(args.warmup + i) for i in numbers]
            asyncio.run(ask_all(server.url, bodies, 16))
            sizes.append(server.process.memory_info().rss)
            print(f"{start + len(bodies):6d} requests: {sizes[-1] / 2**20:.1f} MiB", flush=True)
        growth = (sizes[-1] / sizes[0] - 1) / (args.requests / 1000)
        print(f"growth per 1,000 requests {growth:.2%} (target: below 1 %)")
    keep(
        named("serve-soak", args.pair),
        {**settings_of(args), "bytes": sizes, "growth_per_1000_requests": growth},
    )


async def vanish(url: str, count: int) -> None:
    """Clients that leave: while waiting, in the middle of a stream, before reading."""

    async def one(session: httpx.AsyncClient, i: int) -> None:
        body = mixed(i) | {"max_tokens": 400, "n": 2, "stream": i % 3 != 0, "temperature": 1.3}
        if i % 3 == 0:
            try:
                await session.post(CHAT, json=body, timeout=0.2)
            except httpx.TimeoutException:
                return
        else:
            async with session.stream("POST", CHAT, json=body) as events:
                if i % 3 == 1:
                    async for _ in events.aiter_bytes():
                        break

    async with httpx.AsyncClient(base_url=url, timeout=600) as session:
        for start in range(0, count, 20):
            await asyncio.gather(*(one(session, i) for i in range(start, min(start + 20, count))))


def disconnects(args: argparse.Namespace) -> None:
    """Counts the rows that are left after many clients have vanished."""
    with Server(0, args.threads, args.pair) as server:
        asyncio.run(vanish(server.url, args.requests))
        until = time.monotonic() + 60
        while server.figure("baco_rows{") and time.monotonic() < until:
            time.sleep(0.1)
        left, seen = server.figure("baco_rows{"), server.figure("baco_disconnects_total")
        print(
            f"{args.requests} disconnects, {seen:.0f} in the middle of work; rows left: {left:.0f}"
        )
    keep(
        named("serve-disconnects", args.pair),
        {**settings_of(args), "in_the_middle_of_work": seen, "rows_left": left},
    )


def named(name: str, pair: str) -> str:
    """The file of a run's figures: one for each pair."""
    return name if pair == "tiny" else f"{name}-{pair}"


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line asked for."""
    return {name: value for name, value in vars(args).items() if name != "run"}


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pair", default="tiny", help="of soak and disconnects, as baco.load's")
    parts = parser.add_subparsers(required=True, metavar="throughput|soak|disconnects")
    part = parts.add_parser("throughput")
    part.add_argument("--width", type=int, default=8192)
    part.add_argument("--requests", type=int, default=128)
    part.add_argument("--clients", type=int, default=16)
    part.add_argument("--repeats", type=int, default=3)
    part.set_defaults(run=throughput)
    part = parts.add_parser("soak")
    part.add_argument("--requests", type=int, default=5000)
    part.add_argument("--warmup", type=int, default=1000)
    part.add_argument("--every", type=int, default=1000, help="requests between two readings")
    part.set_defaults(run=soak)
    part = parts.add_parser("disconnects")
    part.add_argument("--requests", type=int, default=500)
    part.set_defaults(run=disconnects)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
