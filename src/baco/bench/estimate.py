"""What a plan will need, before anything is loaded: samples, tokens, passes, time, memory, disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from baco.bench.plan import Plan, controls_of

BYTES_PER_SAMPLE, BYTES_PER_TOKEN = 400, 12
"""Size of a stored sample: measured on stores of the bundled pair (`plans/tiny.toml`)."""


@dataclass(frozen=True)
class PlanEstimate:
    """What a plan needs in all.

    Attributes:
        cells: Settings on pairs and datasets.
        samples: Samples to make.
        known: Samples that the store has already.
        tokens: Tokens of all samples, at the plan's expected mean length.
        tokens_left: Tokens of the samples that are not there yet.
        longest: Tokens of all samples if each goes to its limit.
        forwards: Tokens that go through each model in lock-step: two for each token of a
            method that needs both models, one of the others. Look-ahead makes it fewer passes.
        seconds: Time of what is left, at the plan's expected speed; None where it expects none.
        memory_gb: Weights of the largest pair, and caches of the rows decoded at a time; None
            where the pair's size is not known.
        disk_gb: Size of the store.
        speed: The speed in words, and where it comes from.
    """

    cells: int
    samples: int
    known: int
    tokens: int
    tokens_left: int
    longest: int
    forwards: int
    seconds: float | None
    memory_gb: float | None
    disk_gb: float
    speed: str


def estimate(plan: Plan, prompts: Mapping[str, int], known: int = 0) -> PlanEstimate:
    """Estimates what a plan needs.

    Args:
        plan: The plan.
        prompts: How many prompts it takes from each dataset.
        known: Samples of it that exist already.
    """
    from baco.methods import METHODS

    cells = samples = longest = forwards = 0
    mean = plan.run.mean_tokens
    tokens = 0.0
    for entry in plan.methods:
        settings = len(controls_of(entry)) * len(plan.pairs_of(entry))
        made = settings * plan.n * sum(prompts.values())
        limit = plan.sampling_of(entry).max_new_tokens
        each = min(mean, limit) if mean else limit
        cells += settings * len(prompts)
        samples += made
        longest += made * limit
        tokens += made * each
        sides = {need.split()[0] for need in METHODS[entry.method].needs}
        models = len(sides & {"base", "aligned"})
        forwards += int(made * each * models)
    rate = plan.run.tokens_per_second
    left = tokens * (1 - known / samples) if samples else 0.0
    return PlanEstimate(
        cells,
        samples,
        known,
        int(tokens),
        int(left),
        longest,
        forwards,
        left / rate if rate else None,
        _memory(plan),
        (samples * BYTES_PER_SAMPLE + tokens * BYTES_PER_TOKEN) / 1e9,
        f"{rate:g} tokens a second: {plan.run.measured_on or 'a guess'}" if rate else "not known",
    )


def _memory(plan: Plan) -> float | None:
    """Gigabytes of the largest pair with its caches."""
    from baco.models.known import known_pairs

    pairs = known_pairs()
    if not all(name in pairs and pairs[name].parameters for name in plan.all_pairs):
        return None
    wide = {"float32": 4, "float64": 8}.get(plan.run.dtype, 2)
    weights = max(
        pairs[n].memory_gb(4 if pairs[n].bundled and wide == 2 else wide) for n in plan.all_pairs
    )
    length = plan.sampling.max_new_tokens + plan.run.prompt_tokens
    return weights + plan.run.max_rows * length * plan.run.cache_bytes_per_token / 1e9


def rows(found: PlanEstimate) -> list[tuple[str, str]]:
    """The estimate as (what, how much), for people."""
    return [
        ("cells", f"{found.cells:,}"),
        ("samples", f"{found.samples:,}" + (f", {found.known:,} are there" * bool(found.known))),
        ("tokens", f"{found.tokens:,} expected, {found.longest:,} at most"),
        ("forwards", f"{found.forwards:,} token-forwards in lock-step; look-ahead saves passes"),
        (
            "left",
            f"{found.samples - found.known:,} samples, {found.tokens_left:,} tokens expected; the "
            "time is theirs",
        ),
        ("speed", found.speed),
        ("time", "not known" if found.seconds is None else duration(found.seconds)),
        ("memory", "not known" if found.memory_gb is None else f"{found.memory_gb:,.2f} GB"),
        ("disk", f"{found.disk_gb:,.2f} GB"),
    ]


def duration(seconds: float) -> str:
    """A time in words: 45 s, 12 min, 3 h 20 min, 2.5 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes / 60 / 24:.1f} days"
