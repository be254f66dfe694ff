"""Where the engines of a run go: one to each device, or to each group that shares a model."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from baco.bench.plan import Plan
from baco.errors import InputError

EnginePlace = tuple[str, ...]
"""Devices of one engine, by what ``CUDA_VISIBLE_DEVICES`` calls them; none: wherever it runs."""

WITHOUT_DEVICES = 2
"""Engines where there are no devices to count."""


def found_devices() -> list[str]:
    """Returns the CUDA devices that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        import torch

        return [str(number) for number in range(torch.cuda.device_count())]
    names = [name.strip() for name in visible.split(",")]
    return [name for name in names if name and name != "-1"]


def places(plan: Plan, devices: Sequence[str], workers: int | None) -> list[EnginePlace]:
    """Places engines.

    Args:
        plan: Says how many devices an engine takes, and on what kind it runs.
        devices: The devices that there are.
        workers: How many engines; None for as many as there is room for.

    Raises:
        InputError: If they do not fit, or the plan names one device.
    """
    size = group_size(plan)
    if not _on_devices(plan, bool(devices)):
        return [()] * (WITHOUT_DEVICES if workers is None else workers)
    groups = [tuple(devices[i : i + size]) for i in range(0, len(devices) - size + 1, size)]
    return groups[: _fitting(len(groups), workers, len(devices), size)]


def on_nodes(
    plan: Plan, nodes: Iterable[Mapping[str, Any]], workers: int | None
) -> tuple[int, int]:
    """Places engines on the nodes of a Ray cluster.

    Args:
        plan: As of `places`.
        nodes: What `ray.nodes` returns.
        workers: As of `places`.

    Returns:
        How many engines, and how many GPUs each of them takes.

    Raises:
        InputError: As of `places`.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = [int(resources.get("GPU", 0)) for resources in alive]
    size = group_size(plan)
    if not _on_devices(plan, any(gpus)):
        return (WITHOUT_DEVICES if workers is None else workers), 0
    room = sum(count // size for count in gpus)
    return _fitting(room, workers, sum(gpus), size), size


def group_size(plan: Plan) -> int:
    """How many devices one engine takes.

    Raises:
        InputError: If an option that says so is no whole number, or less than 1.
    """
    from baco.models.engines import ENGINES, OURS

    engine, options = plan.run.engine, plan.run.engine_options
    spread = () if engine == OURS else ENGINES[engine].spread
    sizes = {name: options.get(name, 1) for name in spread}
    for name, size in sizes.items():
        if type(size) is not int or size < 1:
            raise InputError(
                f"the plan's engine option {name} = {size!r} is no number of devices",
                hint="use a whole number of at least 1",
            )
    return math.prod(sizes.values())


def _on_devices(plan: Plan, some: bool) -> bool:
    """Whether engines take devices of their own."""
    kind, _, number = plan.run.device.partition(":")
    if number:
        raise InputError(
            f"the plan's device {plan.run.device!r} is one device, and this run places its engines",
            hint="write device = 'auto', or use the executor local",
        )
    if kind == "cuda" and not some:
        raise InputError("no CUDA device was found", hint="write device = 'auto' or 'cpu'")
    return some and kind in ("auto", "cuda")


def _fitting(room: int, workers: int | None, devices: int, size: int) -> int:
    """How many engines there are to be, if there is room for them."""
    if room and (workers is None or workers <= room):
        return room if workers is None else workers
    raise InputError(
        f"{workers or 1} engines of {size} devices each do not fit on {devices}",
        hint="leave out the number of workers, or make tensor_parallel_size smaller",
    )
