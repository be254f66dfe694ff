"""Decoding in llama.cpp against llama-cpp-python alone, and transformers on the same files.

Run in `.venv-llamacpp`: ``OMP_NUM_THREADS=1 python -m benchmarks.llamacpp FOLDER --json FILE``;
FOLDER holds the two files of the pair ``real`` (docs/llamacpp.md). Contestants take turns in one
process with as many threads each. llama-cpp-python has no `n`, so there ten answers are ten calls,
of which all but the first find the prompt read. transformers dequantises the weights to float32.
``--widths`` measures what wider passes cost instead: the line of `baco.engine.costs.SLOPES`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import baco
from baco.models.llamacpp import LlamaPartner
from baco.pair import Pair
from baco.prompts import Conversation, conversation_of
from benchmarks import decoding
from benchmarks.decoding import Contestant, Run, engine_run, generate_run, race
from benchmarks.record import machine

SMOL, GEMMA = "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4_k_m.gguf"
BASES = {"smol-plain": SMOL, "gemma+smol": GEMMA}
MAIN = "p-punc@0.3"
PROMPTS = ("Tell me a story in three sentences about a girl and her dog.",)
KINDS, TOKENS, TIMES = (1, 4, 16, 64), (1, 2, 4), 15


def alone(pair: Pair, file: Path, n: int) -> Contestant:
    """`create_completion` of the aligned model, as llama-cpp-python's users call it."""
    from llama_cpp import Llama

    threads = torch.get_num_threads()
    llama = Llama(str(file), n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)

    def run(prompts: Sequence[Conversation]) -> Run:
        seconds, tokens = 0.0, 0
        for prompt in prompts:
            ids = list(pair.prompt_ids(prompt)[1])
            start = decoding.clock()
            llama.reset()  # or the prompt of an earlier turn is found read
            for seed in range(n):
                made: Any = llama.create_completion(
                    ids, max_tokens=decoding.LIMIT, temperature=1.0, top_p=0.9, top_k=0, min_p=0.0,
                    repeat_penalty=1.0, seed=seed,
                )  # fmt: skip
                tokens += made["usage"]["completion_tokens"]
            seconds += decoding.clock() - start
        return Run(seconds, tokens)

    return run


def ours(pair: Pair, spec: str, n: int) -> Contestant:
    return lambda prompts: engine_run(pair, prompts, spec, n)


def generated(pair: Pair, n: int) -> Contestant:
    return lambda prompts: generate_run(pair, prompts, n)


def races(folder: Path, names: Sequence[str], times: int) -> list[dict[str, Any]]:
    asked = [conversation_of(text) for text in PROMPTS]
    found = []
    for name in names:
        base = BASES[name]
        pair = baco.load(str(folder / base), str(folder / SMOL), engine="llamacpp")
        same = baco.load(str(folder / base), str(folder / SMOL), dtype="float32")
        for n in (1, 10):
            contestants = {
                "aligned alone, create_completion": alone(pair, folder / SMOL, n),
                "aligned alone, llamacpp": ours(pair, "alone", n),
                f"{MAIN}, llamacpp": ours(pair, MAIN, n),
                f"{MAIN}, transformers": ours(same, MAIN, n),
            }
            if same.one_tokenizer:  # the aligned model is the same in all pairs
                contestants["aligned alone, generate"] = generated(same, n)
            rows = race(contestants, asked, times)
            found.append({"pair": name, "n": n, "rows": rows})
            first = rows["aligned alone, create_completion"]["seconds_per_token"]
            for who, row in rows.items():
                each = row["seconds_per_token"]
                passes = row["passes"] and row["passes"] / row["tokens"]
                print(
                    f"{name}, n = {n}, {who}: {1e3 * each:.2f} ms a token, {first / each:.2f} of "
                    f"create_completion, {passes and round(passes, 3)} passes a token",
                    flush=True,
                )
    return found


def widths(folder: Path) -> None:
    """What share of a pass each of three further tokens per row adds."""
    for name in (SMOL, GEMMA):
        pair = baco.load(str(folder / name), str(folder / SMOL), engine="llamacpp")
        partner = pair.base.inner
        assert isinstance(partner, LlamaPartner)
        line = []
        for rows in KINDS:
            taken: dict[int, list[float]] = {tokens: [] for tokens in TOKENS}
            cache = partner.new_cache()
            cache.add(rows)
            cache.open([[7] * 30] * rows, range(rows))
            for _ in range(TIMES):
                for tokens, times in taken.items():
                    ids = torch.full((rows, tokens), 7)
                    start = time.perf_counter()
                    cache.feed(ids, torch.full((rows,), tokens))
                    times.append(1e3 * (time.perf_counter() - start))
                    cache.truncate(torch.full((rows,), 30))
            one, two, four = (min(times) for times in taken.values())
            line.append(
                f"{rows} rows: {one:.1f}, {two:.1f}, {four:.1f} ms, {(four / one - 1) / 3:.2f}"
            )
        print(name, *line, sep="\n  ", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--limit", type=int, default=16, help="most tokens of a sample")
    parser.add_argument("--pair", action="append", choices=list(BASES))
    parser.add_argument("--widths", action="store_true")
    options = parser.parse_args()
    if options.widths:
        widths(options.folder)
        return
    before = os.getloadavg()
    decoding.LIMIT = options.limit
    rows = races(options.folder, options.pair or list(BASES), options.times)
    found = {"races": rows, "limit": options.limit, "machine": machine(),
             "load_before": before, "load_after": os.getloadavg()}  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
