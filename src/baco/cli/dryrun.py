"""``baco generate --dry-run``: what a run would make and need, without making it."""

from __future__ import annotations

from typing import Any

from baco.cli.table import print_json
from baco.errors import BacoError, InputError
from baco.methods.base import Setting, Task
from baco.methods.distinct import DRAWS
from baco.methods.run import job_of
from baco.methods.running import with_draft
from baco.models.interpolate import further_weights
from baco.models.memory import Need, available_on, need_of
from baco.models.sides import Side
from baco.pair import Pair
from baco.prompts import in_short

_ALONE = {
    frozenset({f"{name} {level}"}): side
    for side, name in enumerate(("base", "aligned"))
    for level in ("top-k", "logits")
}
"""What methods need that use one side only, and which side that is."""


def show_plan(pair: Pair, tasks: list[Task], setting: Setting, *, as_json: bool) -> None:
    """Prints rows, tokens, passes and memory of a run.

    Args:
        pair: The pair; its weights may have been left out.
        tasks: The samples that are missing.
        setting: How they are made.
        as_json: Whether to print one JSON object.

    Raises:
        InputError: If a prompt does not fit into a context window.
        BacoError: If the pair's memory cannot be told beforehand.
    """
    plan = planned(pair, tasks, setting)
    if as_json:
        print_json(plan)
        return
    shown = {
        name.removesuffix("_bytes").replace("_", " "): _shown(name, plan[name]) for name in plan
    }
    width = max(map(len, shown))
    for label, value in shown.items():
        print(f"{label:{width}}  {value}")
    print("\nAt most, that is if every sample runs to its limit. Look-ahead makes fewer passes.")
    name = setting.method.name
    if setting.method.whole_group:
        print(f"The method {name!r} puts answers into prompts; these are not counted.")
    if setting.distinct:
        print(f"Each answer counts once; what is like another is drawn up to {DRAWS} times.")


def planned(pair: Pair, tasks: list[Task], setting: Setting) -> dict[str, Any]:
    """Returns what `show_plan` prints, by name."""
    alone = 1 if setting.method.mixes_weights else _ALONE.get(setting.method.needs)
    sides = pair.sides if alone is None else (pair.sides[alone], pair.sides[alone])
    prompts = {task.prompt: None for task in tasks}
    lengths = []
    for prompt in prompts:
        base, aligned = (len(side.encode(prompt)) for side in sides)
        _check(sides, (base, aligned), in_short(prompt))
        lengths.append((base, aligned))
    partners = (sides[0].partner, sides[1].partner)
    setting = with_draft(pair, setting)
    job = job_of(lengths, len(tasks), setting)
    if setting.method.mixes_weights:
        assert isinstance(setting.control, float)
        job = job._replace(further=further_weights(pair, setting.control))
    need = need_of(partners, job)
    plan: dict[str, Any] = {"pair": pair.name, "prompts": len(prompts), "rows": len(tasks)}
    if not tasks:
        return plan
    if need is None:
        raise BacoError(
            f"the memory of the pair {pair.name!r} cannot be told beforehand",
            hint="only models of transformers can be asked for their sizes",
        )
    return plan | _costs(need, tasks, list(prompts), setting)


def _costs(need: Need, tasks: list[Task], prompts: list[Any], setting: Setting) -> dict[str, Any]:
    available = available_on(need)
    wanted = min(setting.max_rows, len(tasks))
    together = need.rows_within(available, wanted, weights=True)
    most = dict(zip(prompts, need.tokens, strict=True))
    waves = -(-len(tasks) // max(1, together))
    total = need.at(max(1, together))
    costs: dict[str, Any] = {
        "tokens": sum(most[task.prompt] for task in tasks),
        "passes_in_lock_step": waves * max(need.tokens) * (1 if need.one_model else 2),
        "rows_at_a_time": together,
        "memory_of_weights_bytes": need.weights,
        "memory_of_a_row_bytes": need.row,
        "memory_in_all_bytes": sum(total.values()),
    }
    for device, size in total.items():
        if len(total) > 1:
            costs[f"memory_on_{device}_bytes"] = size
        if device in available:
            costs[f"available_on_{device}_bytes"] = available[device]
    return costs


def _check(sides: tuple[Side, Side], lengths: tuple[int, int], shown: str) -> None:
    """Raises InputError if a prompt fills a context window."""
    for side, length in zip(sides, lengths, strict=True):
        if length >= side.partner.context_window:
            raise InputError(
                f"the prompt has {length} tokens, the context window "
                f"{side.partner.context_window} (prompt: {shown!r})",
                hint="shorten the prompt or use a model with a longer context",
            )


def readable(size: int) -> str:
    """Writes a number of bytes for people: 1.5 GB is 1.5e9 bytes."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"


def _shown(name: str, value: Any) -> str:
    if name.endswith("_bytes"):
        return readable(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
