"""Picks prompts and responses: matched on automatic quality, stratified by length, seeded.

Paper: App. G.1. Parameters are tuned to comparable automatic quality; prompts are stratified by
average response length and drawn from the bins with shorter outputs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

from baco.errors import InputError
from baco.study.groups import Response, StudyGroup, mean_quality

DRAWS = 1000
"""Random draws tried before prompts are swapped on purpose."""

MAX_COMBINATIONS = 100_000


@dataclass(frozen=True)
class DesignOptions:
    """How prompts and responses are chosen.

    Attributes:
        prompts: Prompts in the study (the paper: 20 a dataset).
        responses: Responses shown per method and prompt (the paper: 3).
        tolerance: Largest allowed spread between the methods' mean automatic quality; None turns
            matching off.
        bins: Length bins of equal size.
        shortest: How many of the bins with the shorter outputs are drawn from.
        max_words: Longest response allowed; None for no limit.
        seed: Everything random follows from it.
    """

    prompts: int = 20
    responses: int = 3
    tolerance: float | None = 0.1
    bins: int = 4
    shortest: int = 2
    max_words: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.prompts < 1 or self.responses < 1:
            raise InputError("a study needs at least one prompt and one response per method")
        if not 1 <= self.shortest <= self.bins:
            raise InputError("--shortest must be between 1 and the number of length bins")
        if self.tolerance is not None and not self.tolerance >= 0:
            raise InputError("the quality tolerance must be a number that is not negative")


@dataclass(frozen=True)
class DesignItem:
    """One prompt of the study with the drawn responses of each method.

    Attributes:
        prompt: The prompt.
        bin: Length bin, 0 for the shortest.
        words: Mean words per drawn response.
        drawn: Per method: indices into its group, and the responses.
        scores: Per method: automatic scores of its group as a whole.
    """

    prompt: str
    bin: int
    words: float
    drawn: Mapping[str, tuple[tuple[int, Response], ...]]
    scores: Mapping[str, Mapping[str, float]]

    def quality(self, method: str) -> float:
        """Mean automatic quality of the drawn responses, else of the whole group, else NaN."""
        return mean_quality([r for _, r in self.drawn[method]], self.scores[method])


@dataclass
class Design:
    """The chosen items and the record of every choice.

    Attributes:
        methods: The methods, in the order given.
        items: The prompts with their responses.
        candidates: Every prompt seen and what became of it.
        record: Options, chosen settings, matching: plain data for JSON.
    """

    methods: tuple[str, ...]
    items: list[DesignItem]
    candidates: list[dict[str, Any]] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)


def design(
    groups: Sequence[StudyGroup], options: DesignOptions, methods: Sequence[str] = ()
) -> Design:
    """Chooses settings, prompts and responses.

    Args:
        groups: Everything that was read, of all methods and settings.
        options: How to choose.
        methods: The methods to compare; by default all.

    Returns:
        The design with its record.

    Raises:
        InputError: If there are fewer than two methods, too few prompts, no automatic quality
            though matching is on, or no choice within the tolerance.
    """
    names = tuple(methods) or tuple(dict.fromkeys(group.method for group in groups))
    for name in names:
        if not any(group.method == name for group in groups):
            raise InputError(f"no rows of method {name!r}", hint="see --methods")
    if len(set(names)) < 2 or len(set(names)) != len(names):
        raise InputError("a study compares at least two different methods")
    settings, tried = _settings(groups, names)
    table = {
        name: {
            group.prompt: group
            for group in groups
            if group.method == name and group.setting == settings[name]
        }
        for name in names
    }
    candidates, reasons = _candidates(table, options)
    usable = _stratify(candidates, options, reasons)
    chosen, matching = _draw(usable, names, options)
    shown = {item.prompt for item in chosen}
    for item in candidates:
        reasons.setdefault(item.prompt, "chosen" if item.prompt in shown else "not drawn")
    return Design(
        names,
        chosen,
        [{"prompt": prompt, "outcome": outcome} for prompt, outcome in reasons.items()],
        {
            "options": asdict(options),
            "settings": settings,
            "settings_tried": tried,
            "matching": matching,
        },
    )


def _settings(
    groups: Sequence[StudyGroup], names: Sequence[str]
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """One setting per method: the combination with the closest mean quality (App. G.1)."""
    prompts: dict[tuple[str, str], set[str]] = {}
    for group in groups:
        if group.method in names:
            prompts.setdefault((group.method, group.setting), set()).add(group.prompt)
    common = set.intersection(*prompts.values())
    means: dict[str, dict[str, float]] = {name: {} for name in names}
    for name in names:
        own = [group for group in groups if group.method == name and group.prompt in common]
        for setting in dict.fromkeys(group.setting for group in own):
            pool = [group.quality for group in own if group.setting == setting]
            means[name][setting] = sum(pool) / len(pool)
    if not common:
        raise InputError("the methods have no prompt in common")
    several = [name for name in names if len(means[name]) > 1]
    for name in several:
        if any(math.isnan(value) for group in means.values() for value in group.values()):
            raise InputError(
                f"{name!r} has {len(means[name])} settings and not every row has a quality",
                hint="give one setting per file, or a quality by which to pick one",
            )
    if math.prod(len(values) for values in means.values()) > MAX_COMBINATIONS:
        raise InputError("too many combinations of settings", hint="give fewer settings a method")
    best = min(
        itertools.product(*(means[name] for name in names)),
        key=lambda combo: _spread([means[n][s] for n, s in zip(names, combo, strict=True)]),
    )
    tried = [
        {"method": name, "setting": setting, "mean_quality": None if math.isnan(mean) else mean}
        for name in names
        for setting, mean in means[name].items()
    ]
    return dict(zip(names, best, strict=True)), tried


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)


def _candidates(
    table: Mapping[str, Mapping[str, StudyGroup]], options: DesignOptions
) -> tuple[list[DesignItem], dict[str, str]]:
    """Draws responses for every prompt that all methods answered often enough."""
    items, reasons = [], {}
    for prompt in dict.fromkeys(p for groups in table.values() for p in groups):
        missing = [name for name, groups in table.items() if prompt not in groups]
        if missing:
            reasons[prompt] = f"no responses of {missing[0]}"
            continue
        few = [n for n, g in table.items() if len(g[prompt].responses) < options.responses]
        if few:
            reasons[prompt] = f"fewer than {options.responses} responses of {few[0]}"
            continue
        drawn = {}
        for name, groups in table.items():
            responses = groups[prompt].responses
            rng = Random(f"{options.seed}/responses/{name}/{prompt}")
            indices = sorted(rng.sample(range(len(responses)), options.responses))
            drawn[name] = tuple((index, responses[index]) for index in indices)
        words = [len(r.text.split()) for group in drawn.values() for _, r in group]
        if options.max_words is not None and max(words) > options.max_words:
            reasons[prompt] = f"a response of {max(words)} words"
            continue
        scores = {name: groups[prompt].scores for name, groups in table.items()}
        items.append(DesignItem(prompt, 0, sum(words) / len(words), drawn, scores))
    return items, reasons


def _stratify(
    candidates: Sequence[DesignItem], options: DesignOptions, reasons: dict[str, str]
) -> list[list[DesignItem]]:
    """Equal-sized bins by mean length; only the shorter ones are kept."""
    order = sorted(candidates, key=lambda item: (item.words, item.prompt))
    bins: list[list[DesignItem]] = [[] for _ in range(options.bins)]
    for rank, item in enumerate(order):
        at = rank * options.bins // len(order)
        bins[at].append(DesignItem(item.prompt, at, item.words, item.drawn, item.scores))
    for item in itertools.chain(*bins[options.shortest :]):
        reasons[item.prompt] = f"longer: bin {item.bin + 1} of {options.bins}"
    usable = bins[: options.shortest]
    if sum(map(len, usable)) < options.prompts:
        raise InputError(
            f"{options.prompts} prompts wanted, but only {sum(map(len, usable))} of "
            f"{len(order)} usable ones are in the {options.shortest} shortest of "
            f"{options.bins} length bins",
            hint="ask for fewer prompts, or raise --shortest",
        )
    return usable


def _quotas(sizes: Sequence[int], total: int) -> list[int]:
    """Spreads a total evenly over bins, shorter bins first, never more than a bin holds."""
    quotas = [0] * len(sizes)
    while total:
        for at, size in enumerate(sizes):
            if total and quotas[at] < size:
                quotas[at] += 1
                total -= 1
    return quotas


def _draw(
    bins: Sequence[Sequence[DesignItem]], names: Sequence[str], options: DesignOptions
) -> tuple[list[DesignItem], dict[str, Any]]:
    """Draws evenly from the bins until the methods' mean qualities are within the tolerance.

    Random draws come first, so every matched choice is equally likely; if none of them matches,
    the best one is improved by swapping prompts of one bin.
    """
    rng = Random(f"{options.seed}/prompts")
    quotas = _quotas([len(items) for items in bins], options.prompts)

    def once() -> list[list[DesignItem]]:
        return [rng.sample(items, quota) for items, quota in zip(bins, quotas, strict=True)]

    def flat(parts: Sequence[Sequence[DesignItem]]) -> list[DesignItem]:
        return [item for part in parts for item in part]

    everything = flat(bins)
    rated = not any(math.isnan(item.quality(name)) for item in everything for name in names)
    if options.tolerance is None:
        items = flat(once())
        means = {name: _mean(items, name) for name in names} if rated else None
        return items, {"how": "off", "mean_quality": means}
    if not rated:
        raise InputError(
            "matching needs an automatic quality for every response",
            hint="add a 'quality' field to the rows, name the field with --quality-field, "
            "give --scores, or pass --unmatched",
        )
    best, gap, draws = once(), math.inf, 0
    for draws in range(1, DRAWS + 1):
        drawn = best if draws == 1 else once()
        if (spread := _gap(flat(drawn), names)) < gap:
            best, gap = drawn, spread
        if gap <= options.tolerance:
            break
    swaps = 0
    while gap > options.tolerance and (swap := _best_swap(best, bins, names, gap)):
        best, gap = swap
        swaps += 1
    if gap > options.tolerance:
        raise InputError(
            f"no {options.prompts} prompts found whose mean qualities differ by at most "
            f"{options.tolerance:g}; the closest choice differs by {gap:.3g}",
            hint="tune the methods to comparable quality, or raise --tolerance",
        )
    items = flat(best)
    return items, {
        "how": "swaps" if swaps else "random draws",
        "draws": draws,
        "swaps": swaps,
        "gap": gap,
        "mean_quality": {name: _mean(items, name) for name in names},
    }


def _mean(items: Sequence[DesignItem], name: str) -> float:
    return sum(item.quality(name) for item in items) / len(items)


def _gap(items: Sequence[DesignItem], names: Sequence[str]) -> float:
    return _spread([_mean(items, name) for name in names])


def _best_swap(
    parts: Sequence[list[DesignItem]],
    bins: Sequence[Sequence[DesignItem]],
    names: Sequence[str],
    gap: float,
) -> tuple[list[list[DesignItem]], float] | None:
    """The one swap within a bin that brings the means closest, if it brings them closer."""
    count = sum(map(len, parts))
    sums = [sum(i.quality(name) for part in parts for i in part) for name in names]
    best: tuple[float, int, int, DesignItem] | None = None
    for at, (part, pool) in enumerate(zip(parts, bins, strict=True)):
        inside = {item.prompt for item in part}
        for out, old in enumerate(part):
            for new in pool:
                if new.prompt in inside:
                    continue
                spread = _spread(
                    [
                        (total + new.quality(name) - old.quality(name)) / count
                        for total, name in zip(sums, names, strict=True)
                    ]
                )
                if spread < gap - 1e-12 and (best is None or spread < best[0]):
                    best = (spread, at, out, new)
    if best is None:
        return None
    spread, at, out, new = best
    swapped = [list(part) for part in parts]
    swapped[at][out] = new
    return swapped, spread
