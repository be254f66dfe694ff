"""vLLM's own OpenAI server with the plugin, and `baco serve --engine vllm`."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from baco.engine import Request, Warp
from baco.engine.noise import row_key
from baco.errors import UnsupportedError
from baco.models.known import locate
from baco.prompts import conversation_of
from baco.routers import parse
from baco.vllm.inside.pair import overrides
from baco.vllm.inside.versions import installed
from support import golden, triton_cpu
from support.oracle import LEARNED, PROMPTS, trace


@contextmanager
def serving(log: Path, command: list[str], ready: str, port: int) -> Iterator[str]:
    """Runs a server for the time of a test; yields its address."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    address = f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        while not answers(address + ready):
            assert process.poll() is None, log.read_text(errors="replace")[-3000:]
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


def answers(address: str) -> bool:
    """Whether a server says that it is ready."""
    try:
        return httpx.get(address, timeout=300).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def vllm() -> None:
    try:
        installed()
    except UnsupportedError as error:
        pytest.skip(str(error))


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        number: int = listener.getsockname()[1]
    return number


@contextmanager
def vllms(log: Path, *more: str) -> Iterator[str]:
    """Runs vLLM's own server."""
    port = free_port()
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        "--model", locate("bundled:aligned"), "--served-model-name", "tiny",
        "--hf-overrides", json.dumps(overrides(locate("bundled:base"), None)),
        "--dtype", "float32", "--enforce-eager", "--block-size", "32",
        "--kv-cache-memory-bytes", str(64 * 2**20), "--generation-config", "vllm",
        "--host", "127.0.0.1", "--port", str(port), *more,
    ]  # fmt: skip
    with serving(log, command, "/health", port) as address:
        yield address


@pytest.fixture(scope="module")
def vllms_server(vllm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with vllms(tmp_path_factory.mktemp("vllm") / "log") as address:
        yield address


def wanted(prompt: str, spec: str, seed: int, index: int, warp: Warp) -> tuple[list, list, list]:
    """What the oracle says to a request over HTTP, where a prompt is known by its ids."""
    base, aligned = golden.tiny().prompt_ids(conversation_of(prompt))
    key = row_key(seed, "ids:" + json.dumps(list(aligned)), index)
    made = trace(Request(base, aligned, parse(spec), key, warp, max_new_tokens=20, turn_rule=True))
    return made.tokens, made.sources, made.begins


def chats_equal(server: str, spec: str) -> tuple[int, int]:
    """Asks greedily and for siblings; returns how many answers are the oracle's, of how many."""
    content = {"baco_learned": [Path(LEARNED).read_text()]} if LEARNED in spec else {}
    equal = total = 0
    for prompt in PROMPTS[:3]:
        for fields, warp in (
            ({"temperature": 0, "n": 1}, Warp(temperature=0)),
            ({"temperature": 1.0, "top_p": 0.9, "n": 3}, Warp()),
        ):
            answer = httpx.post(
                f"{server}/v1/chat/completions",
                json={
                    "model": "tiny", "messages": [{"role": "user", "content": prompt}],
                    "max_tokens": 20, "logprobs": True, "return_token_ids": True, **fields,
                    "vllm_xargs": {
                        "baco_router": spec, "baco_seed": 5, **content,
                        "baco_base_prompt": f"Question: {prompt}\nAnswer:",
                    },
                },
                timeout=300,
            )  # fmt: skip
            assert answer.status_code == 200, answer.text
            for choice in answer.json()["choices"]:
                codes = [int(t["logprob"]) for t in choice["logprobs"]["content"]]
                ids = choice["token_ids"]
                if choice["finish_reason"] == "stop":
                    ids, codes = ids[:-1], codes[: len(ids) - 1]
                tokens, sources, begins = wanted(prompt, spec, 5, choice["index"], warp)
                total += 1
                equal += (ids, [c & 1 for c in codes], [c & 2 > 0 for c in codes]) == (
                    tokens, sources, begins,
                )  # fmt: skip
    print(f"{equal} of {total} equal over HTTP")
    return equal, total


@pytest.mark.parametrize("spec", ["p-punc@0.4", "p-ahead3@0.7", f"{LEARNED}@0.6"])
def test_chat_with_router_seed_and_siblings(vllms_server: str, spec: str) -> None:
    assert chats_equal(vllms_server, spec) == (12, 12)


@pytest.mark.skipif(not triton_cpu.ASKED, reason="the runner V1 does not draft")
def test_chat_with_drafts(vllm: None, tmp_path: Path) -> None:
    """Exact speculation: the same answers, and vLLM counts what was drafted and kept."""
    drafting = json.dumps({"method": "ngram", "num_speculative_tokens": 4})
    with vllms(tmp_path / "log", "--speculative-config", drafting) as server:
        assert chats_equal(server, "p-punc@0.4") == (12, 12)
        metrics = httpx.get(f"{server}/metrics", timeout=300).text
    counts = {
        name: float(
            re.search(rf"^vllm:spec_decode_num_{name}_tokens_total\S* (\S+)$", metrics, re.M)[1]
        )
        for name in ("draft", "accepted")
    }
    print(counts)
    assert 20 < counts["accepted"] <= counts["draft"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"vllm_xargs": {"baco_router": "p-pnuc"}}, "did you mean 'p-punc'"),
        ({"vllm_xargs": {"baco_router": "p-punc", "baco_gamma": 7}}, "out of range"),
        ({"vllm_xargs": {"baco_router": "judge"}}, "asks a judge"),
        ({"vllm_xargs": {"baco_router": "/etc/x.json"}}, "files that requests name are not opened"),
        ({"vllm_xargs": {"baco_router": "x.json", "baco_learned": ["{}"]}}, "no learned router"),
        ({"vllm_xargs": {"baco_rooter": "p"}}, "did you mean 'baco_router'"),
        ({"vllm_xargs": {"baco_method": "nudging"}}, "unknown method"),
        ({"vllm_xargs": {"baco_method": "base", "baco_gamma": 0.1}}, "one model alone"),
        ({"vllm_xargs": {"baco_seed": "x"}}, "must be an integer"),
        ({"vllm_xargs": {"baco_base_prompt": ""}}, "must be text"),
        ({"vllm_xargs": {"baco_base_ids": []}}, "list of token ids"),
        ({"vllm_xargs": {"baco_base_ids": [3, 2048]}}, "token id 2048, and there are 2048"),
        ({"vllm_xargs": {"baco_base_ids": [3] * 1024}}, "has 1024 tokens, the context window 1024"),
        ({"presence_penalty": 1.0}, "presence_penalty is not supported"),
        ({"min_tokens": 3}, "min_tokens is not supported"),
        ({"logprobs": True, "top_logprobs": 2}, "carry sources"),
    ],
)
def test_mistakes_are_one_clear_line(vllms_server: str, more: dict, words: str) -> None:
    answer = httpx.post(
        f"{vllms_server}/v1/chat/completions",
        json={"model": "tiny", "messages": [{"role": "user", "content": "Hi"}],
              "max_tokens": 4, **more},
        timeout=300,
    )  # fmt: skip
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]["message"]


def test_raw_text_is_read_by_both_sides_and_single_models_work(vllms_server: str) -> None:
    for method in ("baco", "base", "aligned"):
        answer = httpx.post(
            f"{vllms_server}/v1/completions",
            json={"model": "tiny", "prompt": "Question: Name a city.\nAnswer:", "max_tokens": 8,
                  "vllm_xargs": {"baco_method": method}},
            timeout=300,
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["text"]


@pytest.fixture(scope="module")
def our_server(vllm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    command = [
        sys.executable, "-m", "baco", "serve", "--engine", "vllm", "--port", str(port),
        "--engine-option", "enforce_eager=true", "--engine-option", "block_size=32",
        "--engine-option", f"kv_cache_memory_bytes={64 * 2**20}",
    ]  # fmt: skip
    with serving(tmp_path_factory.mktemp("ours") / "log", command, "/v1/models", port) as at:
        yield at


def test_our_server_on_vllm(our_server: str) -> None:
    body = {
        "model": "tiny", "messages": [{"role": "user", "content": PROMPTS[0]}], "n": 4,
        "max_tokens": 20, "seed": 7, "temperature": 1.0, "top_p": 0.9, "router": "p-punc@0.4",
    }  # fmt: skip
    answer = httpx.post(f"{our_server}/v1/chat/completions", json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    texts = [choice["message"]["content"] for choice in answer.json()["choices"]]
    own = golden.tiny().generate(PROMPTS[0], n=4, seed=7, router="p-punc@0.4", max_new_tokens=20)
    equal = sum(a.strip() == b.strip() for a, b in zip(texts, own.texts, strict=True))
    print(f"{equal} of 4 equal from our server")
    assert equal >= 3
    assert 0 <= answer.json()["baco"]["base_share"] <= 1
    scored = httpx.post(
        f"{our_server}/v1/chat/completions", json=body | {"logprobs": True}, timeout=300
    )
    assert scored.status_code == 400
    assert "not available from vLLM pairs" in scored.json()["error"]["message"]


def test_the_command_line_on_vllm(vllm: None) -> None:
    """Nothing but samples on stdout, however much vLLM has to say."""
    environment = {k: v for k, v in os.environ.items() if k != "VLLM_LOGGING_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "baco", "generate", PROMPTS[0], "-n", "3", "--json",
         "--engine", "vllm", "--engine-option", "enforce_eager=true", "--router", "p-punc@0.4"],
        capture_output=True, text=True, timeout=600, check=True, env=environment,
    )  # fmt: skip
    assert "WARNING" in done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    own = golden.tiny().generate(PROMPTS[0], n=3, router="p-punc@0.4")
    assert [row["text"] for row in rows] == [sample.text for sample in own]
    assert [tuple(row["sources"]) for row in rows] == [s.sources for s in own]
