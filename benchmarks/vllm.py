"""Throughput of pairs inside vLLM, as ratios in one run: against one model, two servers, our loop.

Run with the environment of ``make test-vllm``: ``.venv-vllm/bin/python -m benchmarks.vllm``
(``--prompts 4`` for a smaller sample). The bundled pair, its MLPs widened by units that do nothing,
so that a pass costs what a pass of a larger model costs while every token stays the same. The same
prompts, ten samples each, in every arm, the best of three runs (of one where servers are driven
from outside). Two models are two models' work, so half of the aligned model's speed is what a
composite without any cost of its own would reach:

- ``composite``: both models in vLLM, this package;
- ``aligned alone``: the aligned checkpoint in plain vLLM, its own sampler, no plugin;
- ``two servers``: what can be had from outside: for every token of every row one request for one
  token to each of two vLLM engines, full log-probabilities back, the step outside. In this
  process, without HTTP, so that it is the best case of that way;
- ``own engine``: `baco.engine`, with look-ahead and in lock-step.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from baco.engine import Request, Warp
from baco.engine.noise import row_key
from baco.engine.scores import Context, score
from baco.engine.step import step
from baco.engine.units import START
from baco.engine.vocabulary import Vocabulary
from baco.pair import Pair
from baco.prompts import conversation_of
from baco.routers import parse
from baco.tiny.world import prompts
from benchmarks.record import keep

ROUTER = "p-punc@0.4"
LIMIT = 64
TIMES = 3  # the best of so many: other work on the machine only ever slows an arm down
N = 10
ARMS = ("composite", "aligned alone", "two servers", "own engine", "own engine, lock-step")


class Result(NamedTuple):
    """What one arm did."""

    arm: str
    tokens: int
    seconds: float
    equal: float | None = None

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


def widened(model: Any, width: int) -> Any:
    """Widens a Llama's MLPs by units whose down-projection is zero: a checkpoint can say that."""
    for layer in model.model.layers:
        for name in ("gate_proj", "up_proj", "down_proj"):
            linear = getattr(layer.mlp, name)
            old, down = linear.weight, name == "down_proj"
            extra = old.new_zeros((len(old), width) if down else (width, old.shape[1]))
            if not down:
                extra.normal_(std=0.02)
            linear.weight = torch.nn.Parameter(torch.cat([old, extra], int(down)))
    model.config.intermediate_size += width
    return model


def folders(root: Path, width: int) -> tuple[str, str]:
    """Saves both models of the bundled pair with ballast; returns their folders."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from baco.models.known import locate

    out = []
    for name in ("base", "aligned"):
        source = locate(f"bundled:{name}")
        torch.manual_seed(0)
        with torch.no_grad():
            model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
            widened(model, width)
        model.save_pretrained(root / name)
        AutoTokenizer.from_pretrained(source).save_pretrained(root / name)
        out.append(str(root / name))
    return out[0], out[1]


def requests(pair: Pair, texts: Sequence[str]) -> list[Request]:
    """Ten rows of each prompt."""
    out = []
    for text in texts:
        base, aligned = pair.prompt_ids(conversation_of(text))
        out += [
            Request(base, aligned, parse(ROUTER), row_key(0, text, i), Warp(), max_new_tokens=LIMIT)
            for i in range(N)
        ]
    return out


def drained(engine: Any, asked: Sequence[Request]) -> tuple[float, list[list[int]]]:
    """Decodes all in one go; returns seconds and tokens."""
    start = time.perf_counter()
    rows: dict[int, list[int]] = {engine.submit(request): [] for request in asked}
    while not engine.idle:
        for event in engine.step():
            rows[event.row] += event.tokens
    return time.perf_counter() - start, list(rows.values())


def vllm_options() -> dict[str, Any]:
    """The same for every vLLM engine here."""
    return {"kv_cache_memory_bytes": 512 * 2**20, "max_num_seqs": 256, "max_model_len": 512}


def in_pair(base: str, aligned: str, texts: Sequence[str], engine: str, lookahead: str) -> Any:
    """The composite and our own engine."""
    import baco
    from baco.engine.opening import open_engine

    options = vllm_options() if engine == "vllm" else {}
    pair = baco.load(base, aligned, engine=engine, dtype="float32", **options)
    asked = requests(pair, texts)
    drained(open_engine(pair.base, pair.aligned, lookahead=lookahead), asked[:N])
    return best(lambda: drained(open_engine(pair.base, pair.aligned, lookahead=lookahead), asked))


def best(arm: Callable[[], tuple[float, Any]]) -> tuple[float, Any]:
    """The fastest of several runs."""
    return min((arm() for _ in range(TIMES)), key=lambda result: result[0])


def plain(folder: str, **more: Any) -> Any:
    """A plain vLLM engine with one model."""
    from vllm import LLM

    return LLM(folder, dtype="float32", disable_log_stats=True, **vllm_options(), **more)


def aligned_alone(base: str, aligned: str, texts: Sequence[str]) -> Any:
    """One model in plain vLLM."""
    from vllm import SamplingParams, TokensPrompt

    from baco.vllm.inside.pair import Checkpoints

    llm = plain(aligned)
    both = Checkpoints.find(base, aligned)
    asked = [TokensPrompt(prompt_token_ids=ids) for ids in encoded(both, texts)]
    how = SamplingParams(
        n=N, temperature=1.0, top_p=0.9, max_tokens=LIMIT, stop_token_ids=sorted(both.ends),
        detokenize=False,
    )  # fmt: skip
    llm.generate(asked[:1], how, use_tqdm=False)

    def run() -> tuple[float, Any]:
        start = time.perf_counter()
        outputs = llm.generate(asked, how, use_tqdm=False)
        seconds = time.perf_counter() - start
        return seconds, [list(part.token_ids) for output in outputs for part in output.outputs]

    return best(run)


def encoded(both: Any, texts: Sequence[str]) -> list[list[int]]:
    """The aligned side's prompts."""
    from baco.models.sides import chat_encoder

    encode = chat_encoder(both.aligned.tokenizer, both.aligned.label)
    return [list(encode(conversation_of(text))) for text in texts]


def two_servers(base: str, aligned: str, texts: Sequence[str]) -> Any:
    """Every token of every row asks both engines for one token and all log-probabilities."""
    import baco

    pair = baco.load(base, aligned, dtype="float32", device="cpu")  # the step is outside
    asked = requests(pair, texts)
    engines = [plain(folder, max_logprobs=-1) for folder in (base, aligned)]
    outside(engines, asked[:N], pair.aligned.vocabulary)
    return outside(engines, asked, pair.aligned.vocabulary)


def outside(engines: Sequence[Any], asked: Sequence[Request], vocabulary: Vocabulary) -> Any:
    """Decodes with two engines driven from outside."""
    from vllm import SamplingParams, TokensPrompt

    how = SamplingParams(
        max_tokens=1, temperature=0.0, logprobs=-1, detokenize=False, flat_logprobs=True
    )
    start = time.perf_counter()
    rows: list[list[int]] = [[] for _ in asked]
    live = list(range(len(asked)))
    state = torch.full((len(asked),), START)
    source = torch.zeros(len(asked), dtype=torch.int64)
    keys = torch.tensor([request.key for request in asked])
    while live:
        scores = []
        for side, engine in enumerate(engines):
            ids = [[*(asked[i].base_prompt, asked[i].aligned_prompt)[side], *rows[i]] for i in live]
            outputs = engine.generate(
                [TokensPrompt(prompt_token_ids=x) for x in ids], how, use_tqdm=False
            )
            table = torch.full((len(live), vocabulary.size), -torch.inf)
            for k, output in enumerate(outputs):
                told = output.outputs[0].logprobs
                table[k, torch.tensor(told.token_ids)] = torch.tensor(told.logprobs)
            scores.append(score(table, Warp(), vocabulary))
        at = torch.tensor(live)
        choice = step(
            scores[0], scores[1],
            Context(keys[at], torch.tensor([len(rows[i]) for i in live]), state[at], source[at]),
            asked[0].router, (Warp(), Warp()), vocabulary,
        )  # fmt: skip
        state[at], source[at] = vocabulary.units.advance(state[at], choice.token), choice.source
        left = []
        for i, token in zip(live, choice.token.tolist(), strict=True):
            if token in vocabulary.end_ids:
                continue
            rows[i].append(token)
            if len(rows[i]) < LIMIT:
                left.append(i)
        live = left
    return time.perf_counter() - start, rows


def run_arm(arm: str, base: str, aligned: str, texts: Sequence[str]) -> Any:
    """Runs one arm, in a process of its own: no arm warms or crowds another."""
    arms: dict[str, Callable[[], Any]] = {
        "composite": lambda: in_pair(base, aligned, texts, "vllm", "auto"),
        "aligned alone": lambda: aligned_alone(base, aligned, texts),
        "two servers": lambda: two_servers(base, aligned, texts),
        "own engine": lambda: in_pair(base, aligned, texts, "baco", "auto"),
        "own engine, lock-step": lambda: in_pair(base, aligned, texts, "baco", "off"),
    }
    return arms[arm]()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=16, help="prompts, ten samples each")
    parser.add_argument("--width", type=int, default=4096, help="units of ballast in each layer")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    texts = [prompt.text for prompt in prompts("heldout")][::3][: options.prompts]
    if options.arm:
        import json

        base, aligned = (str(options.folder / name) for name in ("base", "aligned"))
        seconds, rows = run_arm(options.arm, base, aligned, texts)
        print("RESULT", json.dumps([seconds, rows]))
        return
    measure(texts, options)


def measure(texts: Sequence[str], options: argparse.Namespace) -> None:
    """Runs all arms and writes the table."""
    import json

    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="baco-bench-") as folder:
        folders(Path(folder), options.width)
        reference: list[list[int]] = []
        for arm in ARMS:
            environment = {
                "VLLM_USE_V2_MODEL_RUNNER": "0", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **os.environ,
            }  # fmt: skip
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.vllm", "--arm", arm,
                       "--folder", folder, "--prompts", str(options.prompts)]  # fmt: skip
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                raise SystemExit(f"the arm {arm!r} failed")
            line = next(x for x in done.stdout.splitlines() if x.startswith("RESULT "))
            seconds, rows = json.loads(line.removeprefix("RESULT "))
            reference = reference or rows
            same = sum(a == b for a, b in zip(rows, reference, strict=True)) / len(rows)
            equal = None if arm == "aligned alone" else same
            results.append(Result(arm, sum(map(len, rows)), seconds, equal))
            print(f"{arm:24} {results[-1].speed:8.0f} tokens/s  {equal}", flush=True)
    speed = {result.arm: result.speed for result in results}
    ratios = {arm: speed["composite"] / speed[arm] for arm in ARMS[1:]}
    for arm, ratio in ratios.items():
        print(f"composite / {arm}: {ratio:.2f}")
    keep(
        "vllm",
        {
            "prompts": len(texts),
            "n": N,
            "limit": LIMIT,
            "router": ROUTER,
            "ballast": options.width,
            "threads": 1,
            "arms": [result._asdict() | {"tokens_per_second": result.speed} for result in results],
            "composite_over": ratios,
        },
    )


if __name__ == "__main__":
    main()
