"""What decoding with two models costs: passes per token, and seconds as ratios in one run.

Run: ``python -m benchmarks.engine`` (``--quick`` for a smaller sample). Three tables:

1. Plain speed on the bundled pair: transformers' `generate` with the aligned model alone, our
   loop with the aligned model alone, lock-step collaboration, look-ahead.
2. Passes per token over base shares: lock-step, look-ahead with and without shared noise, the
   best fixed schedule, adaptive, and an oracle that knows which guesses will be right.
3. The same in seconds with ballast: the bundled pair with MLPs widened by units that do nothing,
   so that a pass costs what a pass of a larger model costs while every token stays the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

import baco
from baco.engine import Engine, Request, Warp
from baco.engine.noise import row_key
from baco.engine.policy import Policy
from baco.engine.step import Context, score, step
from baco.engine.units import START
from baco.pair import Pair
from baco.partners.hf import HFPartner
from baco.prompts import conversation_of
from baco.routers import parse
from baco.tiny.world import prompts

console = Console(width=110)
LIMIT = 120
SETTINGS = ("rand@0", "p-punc@0.15", "p-punc@0.3", "p-punc@0.5", "p-punc@0.9", "p@0.5", "p@1",
            "rand@0.3", "rand@0.75")  # fmt: skip


class FixedPolicy(Policy):
    """Runs one side k times, then the other once, whatever happens."""

    def __init__(self, leader: int, k: int) -> None:
        super().__init__((1, 1), k)
        self.leader, self.k, self.turn = leader, k, 0

    def choose(self, *_: Any) -> int:
        """The next side of the cycle."""
        self.turn = (self.turn + 1) % (self.k + 1)
        return self.leader if self.turn else 1 - self.leader


class OwnNoise(Engine):
    """Look-ahead whose guesses do not share the rows' noise."""

    def _noise_of_guesses(self, keys: torch.Tensor) -> torch.Tensor:
        return keys ^ 0x5DEECE66D


class Result(NamedTuple):
    """One run over all prompts."""

    passes: float
    tokens: int
    base_share: float
    seconds: float
    texts: list[list[int]]

    @property
    def per_token(self) -> float:
        """Passes over tokens; with n > 1, over the tokens of each batch's longest row."""
        return self.passes / self.tokens


def requests(pair: Pair, prompt: str, spec: str, n: int) -> list[Request]:
    """The rows of one group."""
    base, aligned = pair.prompt_ids(conversation_of(prompt))
    router = parse(spec)
    return [
        Request(base, aligned, router, row_key(0, prompt, i), Warp(), max_new_tokens=LIMIT)
        for i in range(n)
    ]


def decode(
    pair: Pair, texts: Sequence[str], spec: str, n: int, make: Callable[[], Engine]
) -> Result:
    """Decodes a group for each prompt; a batched pass counts once for the whole group."""
    passes, tokens, base_units, units, seconds = 0.0, 0.0, 0, 0, 0.0
    out = []
    for text in texts:
        engine = make()
        rows = {engine.submit(r): [] for r in requests(pair, text, spec, n)}  # type: ignore[var-annotated]
        start = time.perf_counter()
        while not engine.idle:
            for event in engine.step():
                rows[event.row] += event.tokens
                units += sum(event.begins)
                base_units += sum(s for s, b in zip(event.sources, event.begins, strict=True) if b)
        seconds += time.perf_counter() - start
        stats = engine.stats
        passes += stats.base_passes + stats.aligned_passes + stats.draft_cost
        tokens += max(len(ids) for ids in rows.values()) if n > 1 else stats.tokens
        out += list(rows.values())
    return Result(passes, int(tokens), base_units / max(units, 1), seconds, out)


# --- 2: the oracle ------------------------------------------------------------------------------


class Truth(NamedTuple):
    """For each position of a finished sample: which sides decided it, which guess it right."""

    needs: list[tuple[bool, bool]]
    hits: list[tuple[bool, bool]]


def truth(pair: Pair, request: Request, tokens: list[int], ended: bool) -> Truth:
    """Replays a sample with both models' whole sequences (sides: aligned, base)."""
    vocabulary = pair.aligned.vocabulary
    sides = []
    for partner, prompt in (
        (pair.aligned, request.aligned_prompt),
        (pair.base, request.base_prompt),
    ):
        assert isinstance(partner, HFPartner)
        logits = partner.all_logits([*prompt, *tokens])[len(prompt) - 1 :]
        sides.append(score(logits, request.warp, vocabulary))
    state, source = torch.tensor([START]), torch.tensor([0])
    needs, hits = [], []
    for t in range(len(tokens) + ended):
        context = Context(torch.tensor([request.key]), torch.tensor([t]), state, source)
        row = torch.tensor([t])
        aligned, base = (side.rows(row) for side in sides)
        how = (request.warp, request.warp)
        real = step(base, aligned, context, request.router, how, vocabulary)
        needs.append((bool(real.needs_aligned), bool(real.needs_base)))
        own = parse("rand", 0)
        guesses = [step(s, s, context, own, how, vocabulary) for s in (aligned, base)]
        hits.append(tuple(bool(g.token == real.token) for g in guesses))
        if t < len(tokens):
            assert int(real.token) == tokens[t], "the replay must give the sample"
            state = vocabulary.units.advance(state, real.token)
            source = real.source
    return Truth(needs, hits)  # type: ignore[arg-type]


def oracle_passes(known: Truth, longest: int = 8) -> int:
    """The fewest passes for one row when every guess's fate is known beforehand.

    Breadth-first over states (t, fed by aligned, fed by base, draft length, last guess wrong).
    """
    total = len(known.needs)
    start = (0, -1, -1, 0, False)
    seen, frontier, passes = {start}, [start], 0
    while True:
        passes += 1
        after = []
        for state in frontier:
            for side in (0, 1):
                new = _run_side(state, side, known, total, longest)
                if new[0] >= total:
                    return passes
                if new not in seen:
                    seen.add(new)
                    after.append(new)
        frontier = after


def _run_side(
    state: tuple[int, int, int, int, bool], side: int, known: Truth, total: int, longest: int
) -> tuple[int, int, int, int, bool]:
    """The state after one pass of a side; mirrors `Engine.step` for one row."""
    t, *fed, drafted, wrong = state  # type: ignore[misc]
    fed[side] = t + drafted if fed[side] >= 0 else t
    while t < total:
        have = [f >= t for f in fed]
        if any(need and not h for need, h in zip(known.needs[t], have, strict=True)):
            break
        if drafted == 1 and wrong:
            fed, drafted, wrong = [min(f, t) for f in fed], 0, False
        elif drafted:
            drafted -= 1
        t += 1
    if t < total and fed[side] == t + drafted and not wrong and drafted < longest:
        tip = t + drafted
        if tip < total:
            wrong = not known.hits[tip][side]
            drafted += 1
    return (t, fed[0], fed[1], drafted, wrong)


def oracle(pair: Pair, texts: Sequence[str], spec: str, result: Result) -> float:
    """Passes per token of the oracle, n = 1."""
    passes = 0
    for text, tokens in zip(texts, result.texts, strict=True):
        [request] = requests(pair, text, spec, 1)
        passes += oracle_passes(truth(pair, request, tokens, len(tokens) < LIMIT))
    return passes / result.tokens


# --- 3: ballast ---------------------------------------------------------------------------------


def add_ballast(model: Any, width: int) -> Any:
    """Widens a Llama's MLPs by units whose down-projection is zero: same tokens, more work."""
    for layer in model.model.layers:
        mlp = layer.mlp
        for name in ("gate_proj", "up_proj", "down_proj"):
            old = getattr(mlp, name)
            down = name == "down_proj"
            extra = old.weight.new_zeros(
                (old.out_features, width) if down else (width, old.in_features)
            )
            if not down:
                extra.normal_(std=0.02)
            new = torch.nn.Linear(1, 1, bias=False)
            new.weight = torch.nn.Parameter(torch.cat([old.weight, extra], 1 if down else 0))
            new.in_features, new.out_features = new.weight.shape[1], new.weight.shape[0]
            setattr(mlp, name, new)
    return model


def heavy_pair(width: int, dtype: torch.dtype) -> Pair:
    """The bundled pair with ballast."""
    pair = baco.load("tiny")
    for side in pair.sides:
        partner = side.partner
        assert isinstance(partner, HFPartner)
        with torch.no_grad():
            add_ballast(partner.model, width)
        partner.model.to(dtype)
        partner.parameters = sum(p.numel() for p in partner.model.parameters())
    return pair


def generate_alone(pair: Pair, texts: Sequence[str], n: int) -> tuple[float, int]:
    """Seconds and tokens of transformers' `generate` with the aligned model."""
    partner = pair.aligned
    assert isinstance(partner, HFPartner)
    seconds, tokens = 0.0, 0
    ends = torch.tensor(sorted(partner.vocabulary.end_ids))
    for text in texts:
        _, aligned = pair.prompt_ids(conversation_of(text))
        ids = torch.tensor([aligned]).repeat(n, 1)
        torch.manual_seed(0)
        start = time.perf_counter()
        with torch.inference_mode():
            out = partner.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, top_p=0.9, top_k=0,
                temperature=1.0, max_new_tokens=LIMIT,
            )  # fmt: skip
        seconds += time.perf_counter() - start
        made = out[:, len(aligned) :]
        stopped = torch.isin(made, ends).int()
        first = torch.where(stopped.any(1), stopped.argmax(1), made.shape[1])
        tokens += int(first.sum())
    return seconds, tokens


def best_of(times: int, run: Callable[[], tuple[float, int]]) -> float:
    """Seconds per token: the quickest of several runs."""
    return min(s / t for s, t in (run() for _ in range(times)))


def seconds_table(title: str, pair: Pair, texts: Sequence[str], n: int, times: int) -> Table:
    """Seconds per token as ratios to `generate`."""

    def ours(spec: str, **kwargs: Any) -> tuple[float, int]:
        end_rule = spec != "alone"
        router = "rand@0" if spec == "alone" else spec
        seconds, tokens = 0.0, 0
        for text in texts:
            base = pair.aligned if spec == "alone" else pair.base
            engine = Engine(base, pair.aligned, **kwargs)
            for r in requests(pair, text, router, n):
                prompt = r.aligned_prompt if spec == "alone" else r.base_prompt
                engine.submit(
                    Request(prompt, r.aligned_prompt, r.router, r.key, r.warp,
                            max_new_tokens=LIMIT, end_rule=end_rule)
                )  # fmt: skip
            start = time.perf_counter()
            while not engine.idle:
                engine.step()
            seconds += time.perf_counter() - start
            tokens += engine.stats.tokens
        return seconds, tokens

    rows: list[tuple[str, Callable[[], tuple[float, int]]]] = [
        ("aligned alone, transformers generate", lambda: generate_alone(pair, texts, n)),
        ("aligned alone, our loop", lambda: ours("alone")),
    ]
    for spec in ("p-punc@0.3", "p-punc@0.5"):
        rows += [
            (f"{spec}, lock-step", lambda spec=spec: ours(spec, lookahead="off")),  # type: ignore[misc]
            (f"{spec}, look-ahead", lambda spec=spec: ours(spec)),  # type: ignore[misc]
        ]
    costs = {name: best_of(times, run) for name, run in rows}
    alone = costs[rows[0][0]]
    table = Table("decoding", "tokens/s", "speed as a ratio to generate", title=title)
    for name, cost in costs.items():
        table.add_row(name, f"{1 / cost:.0f}", f"{alone / cost:.2f}")
    return table


def passes_table(pair: Pair, texts: Sequence[str], n: int) -> Table:
    """Passes per token, over settings."""
    table = Table(
        "router", "base share", "lock-step", "own noise", "best fixed", "adaptive", "oracle",
        f"adaptive, n = {n}", title="passes per token (one model alone: 1.0)",
    )  # fmt: skip

    def run(spec: str, make: Callable[[], Engine], count: int = 1) -> Result:
        return decode(pair, texts, spec, count, make)

    def fixed(leader: int, k: int) -> Engine:
        engine = Engine(pair.base, pair.aligned, lookahead=k)
        engine.policy = FixedPolicy(leader, k)
        return engine

    for spec in SETTINGS:
        plain = run(spec, lambda: Engine(pair.base, pair.aligned, lookahead="off"))
        own = run(spec, lambda: OwnNoise(pair.base, pair.aligned))
        auto = run(spec, lambda: Engine(pair.base, pair.aligned))
        assert plain.texts == auto.texts == own.texts, "look-ahead must not change a token"
        grid = {
            (leader, k): run(spec, lambda leader=leader, k=k: fixed(leader, k)).per_token  # type: ignore[misc]
            for leader in (0, 1)
            for k in (1, 2, 4)
        }
        leader, k = min(grid, key=lambda key: grid[key])
        batched = run(spec, lambda: Engine(pair.base, pair.aligned), n)
        table.add_row(
            spec,
            f"{auto.base_share:.2f}",
            f"{plain.per_token:.2f}",
            f"{own.per_token:.2f}",
            f"{grid[leader, k]:.2f} ({('aligned', 'base')[leader]}, {k})",
            f"{auto.per_token:.2f}",
            f"{oracle(pair, texts, spec, auto):.2f}",
            f"{batched.per_token:.2f}",
        )
    return table


def main(arguments: Iterable[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer prompts and repetitions")
    parser.add_argument("--ballast", type=int, default=16384, help="units added to each MLP")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    count, times = (3, 2) if options.quick else (8, 3)
    texts = [p.text for p in prompts("heldout")][:: max(1, len(prompts("heldout")) // count)]
    texts = texts[:count]

    pair = baco.load("tiny")
    for n in (1, 10):
        console.print(seconds_table(f"the bundled pair, n = {n}", pair, texts[:4], n, times))
    console.print(passes_table(pair, texts, 10))
    for dtype in (torch.float32, torch.bfloat16):
        heavy = heavy_pair(options.ballast, dtype)
        for n in (1, 10):
            title = f"with ballast {options.ballast}, {str(dtype)[6:]}, n = {n}"
            console.print(seconds_table(title, heavy, texts[:2], n, times))


if __name__ == "__main__":
    main()
