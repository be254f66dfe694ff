"""Throughput of pairs inside vLLM, as ratios in one run: against one model, two servers, our loop.

Run with the environment of ``make test-vllm``: ``.venv-vllm/bin/python -m benchmarks.vllm``. The
bundled pair, its MLPs widened by units that do nothing, so that a pass costs what one of a larger
model costs while every token stays the same. Ten samples of one prompt at a time (``--together``:
of several prompts), in every arm, the best of ``--times`` runs (of one where servers are driven
from outside). Two models are two models' work, so half of the aligned model's speed is what a
composite without drafts and without any cost of its own would reach:

- ``composite``: both models in vLLM, this package; ``composite, drafts``: each checks the other's
  guesses;
- ``aligned alone``: the aligned checkpoint in plain vLLM, its own sampler, no plugin; it goes on
  past its ends, so that its answers are as long as the composite's;
- ``two servers``: what can be had from outside: for every token of every row one request for one
  token to each of two vLLM engines, full log-probabilities back, the step outside. In this
  process, without HTTP, so that it is the best case of that way;
- ``own engine``: `baco.engine`, with look-ahead and in lock-step.

vLLM takes the model runner that it takes by default: V2 where Triton is. On a CPU there is none;
``BACO_TEST_TRITON=1 TRITON_INTERPRET=1`` lets it find one that interprets its kernels, slowly and
in every arm alike, so that only passes much more expensive than that tell anything (``--width``).
So the time in the models' own passes is told beside the whole. V1 does not draft.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
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
CLOCK = time.perf_counter if torch.cuda.is_available() else time.process_time
"""On a CPU each arm is one thread, whose own time does not count other work on the machine."""

N = 10
LENGTHS = "lengths.json"
DRAFTS = "composite, drafts"
ARMS = (
    "composite",
    DRAFTS,
    "aligned alone",
    "two servers",
    "own engine",
    "own engine, lock-step",
)


class Told(NamedTuple):
    """What one arm tells.

    Attributes:
        seconds: The best of its runs, by `CLOCK`.
        rows: The tokens of each answer.
        passes: Forward passes of both models; None if they are not counted.
        positions: Tokens fed to both models in them; prompts count in our own engine only.
        runner: The model runner of vLLM that it had.
        models: Seconds within the models of vLLM, their logits included, by `CLOCK`; None where
            that is not known.
    """

    seconds: float
    rows: list[list[int]]
    passes: int | None = None
    positions: int | None = None
    runner: str | None = None
    models: float | None = None


def timed_models() -> Callable[[], float]:
    """Lets vLLM's Llamas tell the time that they take; returns what tells it so far."""
    from vllm.model_executor.models.llama import LlamaForCausalLM

    took = 0.0

    def timed(plain: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(plain)
        def run(*args: Any, **more: Any) -> Any:
            nonlocal took
            start = CLOCK()
            out = plain(*args, **more)
            took += CLOCK() - start
            return out

        return run

    for name in ("forward", "compute_logits"):
        setattr(LlamaForCausalLM, name, timed(getattr(LlamaForCausalLM, name)))
    return lambda: took


def with_models(run: Callable[[], Told], took: Callable[[], float]) -> Told:
    """Adds what the models took; of a card the host's clock does not tell it."""
    before = took()
    told = run()
    return told if torch.cuda.is_available() else told._replace(models=took() - before)


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


def groups(pair: Pair, texts: Sequence[str], together: int) -> list[list[Request]]:
    """Ten rows of each prompt, some prompts at a time."""
    out = []
    for text in texts:
        base, aligned = pair.prompt_ids(conversation_of(text))
        out.append(
            [
                Request(
                    base, aligned, parse(ROUTER), row_key(0, text, i), Warp(), max_new_tokens=LIMIT
                )
                for i in range(N)
            ]
        )
    return [
        [request for ten in out[k : k + together] for request in ten]
        for k in range(0, len(out), together)
    ]


def drained(engine: Any, asked: Sequence[Sequence[Request]]) -> Told:
    """Decodes the groups one after the other."""
    start, rows = CLOCK(), list[list[int]]()
    for group in asked:
        here: dict[int, list[int]] = {engine.submit(request): [] for request in group}
        while not engine.idle:
            for event in engine.step():
                here[event.row] += event.tokens
        rows += here.values()
    seconds, stats = CLOCK() - start, engine.stats
    passes = stats.base_passes + stats.aligned_passes
    return Told(seconds, rows, passes, stats.base_token_rows + stats.aligned_token_rows)


def vllm_options() -> dict[str, Any]:
    """The same for every vLLM engine here."""
    return {"kv_cache_memory_bytes": 512 * 2**20, "max_num_seqs": 256, "max_model_len": 512}


def in_pair(
    arm: str, folders: Sequence[str], texts: Sequence[str], together: int, times: int
) -> Told:
    """The composite and our own engine."""
    import baco
    from baco.engine.opening import open_engine

    inside = arm.startswith("composite")
    options = vllm_options() if inside else {}
    if arm == DRAFTS:
        options["speculative_config"] = {"num_speculative_tokens": 4}
    pair = baco.load(*folders, engine="vllm" if inside else "baco", dtype="float32", **options)
    asked = groups(pair, texts, together)
    lookahead: Any = "off" if "lock-step" in arm else "auto"
    runtime = pair.aligned.runtime._engine if inside else None  # type: ignore[attr-defined]

    def run(some: Sequence[Sequence[Request]] = asked) -> Told:
        if runtime is not None:
            runtime.reset_prefix_cache()
        return drained(open_engine(pair.base, pair.aligned, lookahead=lookahead), some)

    run([[replace(request, max_new_tokens=4) for request in asked[0]]])
    if not inside:
        return best(run, times)
    took = timed_models()
    return best(lambda: with_models(run, took), times)._replace(runner=runner_of(runtime))


def runner_of(engine: Any) -> str:
    """The model runner that vLLM has taken."""
    return "V2" if engine.vllm_config.use_v2_model_runner else "V1"


def best(arm: Callable[[], Told], times: int) -> Told:
    """The fastest of several runs."""
    return min((arm() for _ in range(times)), key=lambda told: told.seconds)


def plain(folder: str, **more: Any) -> Any:
    """A plain vLLM engine with one model."""
    from vllm import LLM

    return LLM(folder, dtype="float32", disable_log_stats=True, **vllm_options(), **more)


def aligned_alone(
    folders: Sequence[str],
    texts: Sequence[str],
    together: int,
    lengths: Sequence[int],
    times: int,
) -> Told:
    """One model in plain vLLM, answers as long as the composite's."""
    from vllm import SamplingParams, TokensPrompt

    from baco.vllm.inside.pair import Checkpoints

    llm = plain(folders[1])
    prompts = [ids for ids in encoded(Checkpoints.find(*folders), texts) for _ in range(N)]
    # vLLM's own sampling does not run in Triton's interpreter; which token it is costs the same.
    heat = 0.0 if os.environ.get("TRITON_INTERPRET") == "1" else 1.0
    asked = [
        (
            TokensPrompt(prompt_token_ids=ids),
            SamplingParams(
                temperature=heat, top_p=0.9, max_tokens=length, ignore_eos=True, detokenize=False
            ),
        )
        for ids, length in zip(prompts, lengths, strict=True)
    ]

    def run(most: int = len(asked)) -> Told:
        llm.reset_prefix_cache()
        start, rows = CLOCK(), list[list[int]]()
        for k in range(0, most, N * together):
            outputs = llm.generate(
                *map(list, zip(*asked[k : k + N * together], strict=True)), use_tqdm=False
            )
            rows += [list(output.outputs[0].token_ids) for output in outputs]
        return Told(CLOCK() - start, rows, runner=runner_of(llm.llm_engine))

    run(1)
    took = timed_models()
    return best(lambda: with_models(run, took), times)


def encoded(both: Any, texts: Sequence[str]) -> list[list[int]]:
    """The aligned side's prompts."""
    from baco.models.sides import chat_encoder

    encode = chat_encoder(both.aligned.tokenizer, both.aligned.label)
    return [list(encode(conversation_of(text))) for text in texts]


def two_servers(folders: Sequence[str], texts: Sequence[str], together: int) -> Told:
    """Every token of every row asks both engines for one token and all log-probabilities."""
    import baco

    pair = baco.load(*folders, dtype="float32", device="cpu")  # the step is outside
    asked = groups(pair, texts, together)
    engines = [plain(folder, max_logprobs=-1) for folder in folders]
    outside(engines, asked[0][:1], pair.aligned.vocabulary)
    seconds, rows = 0.0, list[list[int]]()
    for group in asked:
        took, made = outside(engines, group, pair.aligned.vocabulary)
        seconds, rows = seconds + took, rows + made
    return Told(seconds, rows, runner=runner_of(engines[0].llm_engine))


def outside(engines: Sequence[Any], asked: Sequence[Request], vocabulary: Vocabulary) -> Any:
    """Decodes with two engines driven from outside."""
    from vllm import SamplingParams, TokensPrompt

    how = SamplingParams(
        max_tokens=1, temperature=0.0, logprobs=-1, detokenize=False, flat_logprobs=True
    )
    start = CLOCK()
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
    return CLOCK() - start, rows


def run_arm(options: argparse.Namespace, texts: Sequence[str]) -> Told:
    """Runs one arm, in a process of its own: no arm warms or crowds another."""
    both = [str(options.folder / name) for name in ("base", "aligned")]
    if os.environ.get("BACO_TEST_TRITON") == "1":  # as in the tests: the runner V2 on a CPU
        sys.path.append(str(Path(__file__).parents[1] / "tests"))
        from support import triton_cpu

        triton_cpu.install(Path(tempfile.mkdtemp(dir=options.folder)), os.environ)
    if options.arm == "two servers":
        return two_servers(both, texts, options.together)
    if options.arm == "aligned alone":
        lengths = json.loads((options.folder / LENGTHS).read_text())
        return aligned_alone(both, texts, options.together, lengths, options.times)
    return in_pair(options.arm, both, texts, options.together, options.times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=4, help="prompts, ten samples each")
    parser.add_argument("--together", type=int, default=1, help="prompts at a time")
    parser.add_argument("--times", type=int, default=3, help="runs of each arm; the best counts")
    parser.add_argument("--width", type=int, default=32768, help="units of ballast in each layer")
    parser.add_argument(
        "--arms", nargs="+", choices=ARMS, default=ARMS, help="the composite comes first"
    )
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    texts = [prompt.text for prompt in prompts("heldout")][::3][: options.prompts]
    if options.arm:
        print("RESULT", json.dumps(run_arm(options, texts)))
        return
    measure(texts, options)


def told_by(arm: str, folder: str, options: argparse.Namespace) -> Told:
    """Runs one arm."""
    environment = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **os.environ,
    }  # fmt: skip
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.vllm", "--arm", arm,
               "--folder", folder, "--prompts", str(options.prompts),
               "--together", str(options.together), "--times", str(options.times)]  # fmt: skip
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"the arm {arm!r} failed")
    line = next(x for x in done.stdout.splitlines() if x.startswith("RESULT "))
    return Told(*json.loads(line.removeprefix("RESULT ")))


def measure(texts: Sequence[str], options: argparse.Namespace) -> None:
    """Runs all arms and writes the table."""
    arms: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="baco-bench-") as folder:
        folders(Path(folder), options.width)
        first: Told | None = None
        for arm in dict.fromkeys(("composite", *options.arms)):
            if arm == DRAFTS and first is not None and first.runner == "V1":
                print(f"{arm:24} the runner V1 does not draft")
                continue
            told = told_by(arm, folder, options)
            if first is None:
                first = told
                lengths = [min(len(row) + 1, LIMIT) for row in told.rows]
                (Path(folder) / LENGTHS).write_text(json.dumps(lengths))
                size = N * options.together
                longest = sum(max(lengths[k : k + size]) for k in range(0, len(lengths), size))
                fed = sum(lengths)
            same = [a == b for a, b in zip(told.rows, first.rows, strict=True)]
            arms.append(
                {
                    "arm": arm,
                    "seconds": told.seconds,
                    "tokens_per_second": fed / told.seconds,
                    "equal": None if arm == "aligned alone" else sum(same) / len(same),
                    "passes_per_token": told.passes and told.passes / longest,
                    "positions_per_token": told.positions and told.positions / fed,
                    "seconds_in_models": told.models,
                    "runner": told.runner,
                }
            )
            print(" ".join(f"{name}={value}" for name, value in arms[-1].items()), flush=True)
    assert first is not None
    speed = {each["arm"]: each["tokens_per_second"] for each in arms}
    over = {
        mine: {arm: speed[mine] / speed[arm] for arm in speed if arm not in (mine, DRAFTS)}
        for mine in ("composite", DRAFTS)
        if mine in speed
    }
    passes = {each["arm"]: each["seconds_in_models"] for each in arms}
    models = {
        mine: {arm: passes[arm] / passes[mine] for arm in over[mine] if passes[arm]}
        for mine in over
        if passes[mine]
    }
    for what, found in (("", over), (", passes of the models alone", models)):
        for mine, ratios in found.items():
            for arm, ratio in ratios.items():
                print(f"{mine} / {arm}{what}: {ratio:.2f}")
    keep(
        "vllm" if options.together == 1 else f"vllm-{options.together * N}-rows",
        {
            "prompts": len(texts),
            "n": N,
            "together": options.together,
            "limit": LIMIT,
            "router": ROUTER,
            "ballast": options.width,
            "times": options.times,
            "threads": 1,
            "triton": "interpreted" if os.environ.get("BACO_TEST_TRITON") == "1" else "as found",
            "arms": arms,
            "over": over,
            "over_in_models": models,
        },
    )


if __name__ == "__main__":
    main()
