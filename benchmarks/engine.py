"""What decoding with two models costs: weight passes, token-rows, and seconds as ratios.

Run: ``python -m benchmarks.engine`` (``--quick`` for a first impression, ``--json FILE`` to keep
the figures, ``--passes`` to count passes only, which no clock tells, and leave the file's seconds
as they are, ``--profile`` to see where the time goes). The cost model and the figures of one
machine are in `benchmarks/README.md`; ``python -m benchmarks.report FILE`` puts figures there.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import logging
import pstats
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import baco
from baco.calibration import resolve
from baco.engine import Engine
from baco.engine.router import Router
from baco.pair import Pair
from baco.prompts import Conversation, conversation_of
from baco.routers import parse
from baco.tiny.world import prompts
from benchmarks.ballast import added, heavy_pair, light_model
from benchmarks.decoding import (
    LIMIT,
    Contestant,
    OwnNoise,
    Result,
    decode,
    engine_run,
    generate_run,
    nudging_run,
    race,
    requests,
)
from benchmarks.oracle import fixed_passes, oracle_passes, truth
from benchmarks.record import machine
from benchmarks.report import show

console = Console(width=120)

MAIN = "p-punc@0.3"
ROUTERS = ("p-punc", "p", "h-punc", "rand")
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        count: Prompts for counting passes.
        routers: Routers for counting passes.
        timed: Prompts for timing.
        times: Repetitions of each timing.
        ballast: Units beside each MLP.
    """

    count: int
    routers: tuple[str, ...]
    timed: int
    times: int
    ballast: int


FULL = Size(4, ROUTERS, 2, 3, 32768)
QUICK = Size(3, ("p-punc",), 1, 1, 8192)


def held_out(count: int) -> list[Conversation]:
    """Prompts that the bundled pair was not trained on, spread over their kinds."""
    texts = [p.text for p in prompts("heldout")]
    return [conversation_of(text) for text in texts[:: max(1, len(texts) // count)][:count]]


# --- passes -------------------------------------------------------------------------------------


def routers_within_reach(pair: Pair, names: Sequence[str]) -> list[Router]:
    """The main setting, and each router at the base shares that it reaches on the pair."""
    found = [parse(MAIN)]
    for name in names:
        for share in SHARES:
            router, info = resolve(pair, name, share)
            if not info.clamped:
                found.append(router)
    return found


def passes_row(pair: Pair, asked: Sequence[Conversation], router: Router, n: int) -> dict[str, Any]:
    """All ways of decoding with one router, in passes per token."""

    def run(make: Any, rows: int = 1) -> Result:
        return decode(pair, asked, router, rows, make)

    def engine(lookahead: Any = "auto") -> Engine:
        return Engine(pair.base, pair.aligned, lookahead=lookahead)

    plain = run(partial(engine, "off"))
    own = run(lambda: OwnNoise(pair.base, pair.aligned))
    auto = run(engine)
    assert plain.texts == auto.texts == own.texts, "look-ahead must not change a token"
    known = [
        truth(pair, request, tokens, len(tokens) < LIMIT)
        for prompt, tokens in zip(asked, auto.texts, strict=True)
        for request in requests(pair, prompt, router, 1)
    ]
    fixed = {
        (leader, k): sum(fixed_passes(each, leader, k) for each in known)
        for leader in (0, 1)
        for k in (1, 2, 3, 4, 8)
    }
    leader, k = min(fixed, key=lambda key: fixed[key])
    together, lock_step = run(engine, n), run(partial(engine, "off"), n)
    return {
        "router": router.spec,
        "base_share": auto.base_units / max(auto.units, 1),
        "lock_step": plain.per_step,
        "own_noise": own.per_step,
        "fixed": fixed[leader, k] / auto.tokens,
        "fixed_leader": ("aligned", "base")[leader],
        "fixed_k": k,
        "adaptive": auto.per_step,
        "oracle": sum(oracle_passes(each) for each in known) / auto.tokens,
        "acceptance": auto.acceptance,
        "token_rows": auto.token_rows / auto.tokens,
        "lock_step_token_rows": plain.token_rows / plain.tokens,
        "n": n,
        "group_lock_step": lock_step.per_step,
        "group_adaptive": together.per_step,
        "group_adaptive_per_row": together.per_token,
        "group_token_rows": together.token_rows / together.tokens,
    }


def asked_again(pair: Pair, prompt: Conversation) -> Conversation:
    """A conversation whose text will repeat: the same question again, after its answer."""
    answer = pair.generate([m._asdict() for m in prompt], n=1, router=MAIN).texts[0]
    turns = [("user", prompt[-1].content), ("assistant", answer), ("user", prompt[-1].content)]
    return conversation_of([{"role": role, "content": text} for role, text in turns])


def draft_rows(pair: Pair, asked: Sequence[Conversation], share: float) -> list[dict[str, Any]]:
    """Third parties that guess, in passes per token.

    Args:
        pair: The pair.
        asked: Prompts.
        share: What a pass of the small model costs: its size as a share of the large one's.
    """
    router = parse(MAIN)
    again = [asked_again(pair, prompt) for prompt in asked]
    rows = []
    for what, texts in (("new text", asked), ("text that repeats", again)):
        for name in (None, "prompt-lookup", "small model"):
            small = light_model(pair, "tiny-sft", torch.float32) if name == "small model" else None
            draft: Any = small or name

            def make(draft: Any = draft) -> Engine:
                engine = Engine(pair.base, pair.aligned, draft=draft)
                if engine.drafter and engine.drafter.cost:
                    engine.drafter.cost = share
                return engine

            result = decode(pair, texts, router, 1, make)
            rows.append({"text": what, "draft": name or "none", "passes": result.per_step})
    return rows


def lora_rows(asked: Sequence[Conversation]) -> list[dict[str, Any]]:
    """A LoRA pair: one pass serves both sides; and the bytes of its weights."""
    from baco.models.memory import Workload, need_of

    rows = []
    for name in ("tiny", "tiny-lora"):
        pair = baco.load(name)
        made = decode(pair, asked, parse(MAIN), 1, partial(Engine, pair.base, pair.aligned))
        need = need_of((pair.base, pair.aligned), Workload([(20, 20)], 1, LIMIT))
        assert need is not None
        rows.append({"pair": name, "passes": made.per_step, "weights_bytes": need.weights})
    return rows


# --- seconds ------------------------------------------------------------------------------------


def contestants(pair: Pair, n: int, lora: Pair | None, small: Any) -> dict[str, Contestant]:
    """Who takes part in a race, the yardstick first."""
    found: dict[str, Contestant] = {
        "aligned alone, transformers generate": lambda p: generate_run(pair, p, n),
        "aligned alone, our loop": lambda p: engine_run(pair, p, "alone", n),
    }
    for spec in (MAIN, "p-punc@0.5"):
        found |= {
            f"{spec}, lock-step": lambda p, s=spec: engine_run(pair, p, s, n, lookahead="off"),
            f"{spec}, look-ahead": lambda p, s=spec: engine_run(pair, p, s, n),
        }
    if lora:
        found[f"{MAIN}, LoRA pair"] = lambda p: engine_run(lora, p, MAIN, n)
    if small:
        found |= {
            f"{MAIN}, prompt look-up": lambda p: engine_run(
                pair, p, MAIN, n, draft="prompt-lookup"
            ),
            f"{MAIN}, small draft model": lambda p: engine_run(pair, p, MAIN, n, draft=small),
        }
    found["NUDGING"] = lambda p: nudging_run(pair, p, n)
    return found


def races(size: Size) -> list[dict[str, Any]]:
    """Seconds: the bundled pair as it is, then with ballast in both precisions."""
    asked = held_out(size.timed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on models this small, threads only wait for each other
    plain = baco.load("tiny")
    found = [
        {"model": "as it is", "dtype": "float32", "n": n, "threads": 1,
         "rows": race(contestants(plain, n, None, None), asked, size.times)}
        for n in (1, 10)
    ]  # fmt: skip
    torch.set_num_threads(threads)
    for dtype in (torch.float32, torch.bfloat16):
        pair = heavy_pair("tiny", size.ballast, dtype)
        lora = heavy_pair("tiny-lora", size.ballast, dtype)
        small = light_model(pair, "tiny-sft", dtype)
        for n in (1, 10):
            rows = race(contestants(pair, n, lora, small), asked, size.times)
            found.append(
                {"model": f"ballast {size.ballast}", "dtype": str(dtype)[6:], "n": n,
                 "threads": threads, "rows": rows}
            )  # fmt: skip
    return found


def profile(size: Size) -> None:
    """Prints where the time of look-ahead goes, with ballast, at n = 1 and n = 10."""
    pair = heavy_pair("tiny", size.ballast, torch.float32)
    asked = held_out(size.timed)
    for n in (1, 10):
        engine_run(pair, asked, MAIN, n)
        with cProfile.Profile() as profiler:
            engine_run(pair, asked, MAIN, n)
        stats = pstats.Stats(profiler)
        total = stats.total_tt  # type: ignore[attr-defined]
        parts = {
            f"{Path(file).name}:{name}": seconds
            for (file, _, name), (_, _, _, seconds, _) in stats.stats.items()  # type: ignore[attr-defined]
            if "baco" in file and seconds > 0.01 * total
        }
        console.print(f"\nwhere the time goes, {MAIN}, n = {n}, float32 ({total:.1f} s), in all:")
        for name, seconds in sorted(parts.items(), key=lambda item: -item[1])[:16]:
            console.print(f"  {seconds / total:6.1%}  {name}")


# --- everything -----------------------------------------------------------------------------------


def counted(size: Size) -> dict[str, Any]:
    """Counts passes; figures are ready for JSON."""
    logging.getLogger("baco").setLevel(logging.ERROR)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pair, asked = baco.load("tiny"), held_out(size.count)
    passes = []
    for router in routers_within_reach(pair, size.routers):
        passes.append(passes_row(pair, asked, router, 10))
        console.print(f"counted {router.spec}", style="dim")
    share = pair.aligned.parameters / (pair.aligned.parameters + added(pair, size.ballast))
    drafts, lora = draft_rows(pair, asked, share), lora_rows(asked)
    torch.set_num_threads(threads)
    return {
        "size": {"prompts": size.count, "timed_prompts": size.timed, "times": size.times,
                 "ballast": size.ballast, "limit": LIMIT, "small_model_share": share},
        "passes": passes,
        "drafts": drafts,
        "lora": lora,
    }  # fmt: skip


def measure(size: Size) -> dict[str, Any]:
    """Counts passes and takes times; figures are ready for JSON."""
    start = time.perf_counter()
    found = counted(size) | {"races": races(size)}
    return found | {"minutes": (time.perf_counter() - start) / 60, "machine": machine()}


def main(arguments: Iterable[str] | None = None) -> None:
    """Prints the tables and whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    parser.add_argument("--passes", action="store_true", help="count passes only, into --json FILE")
    parser.add_argument("--profile", action="store_true", help="only show where the time goes")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    if options.passes and not (options.json and options.json.is_file()):
        parser.error("--passes needs the file of an earlier run: --json FILE")
    size = QUICK if options.quick else FULL
    if options.profile:
        profile(size)
        return
    if options.passes:
        figures = json.loads(options.json.read_text(encoding="utf-8")) | counted(size)
    else:
        figures = measure(size)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    show(console, figures)


if __name__ == "__main__":
    main()
