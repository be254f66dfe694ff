"""Ways of running a plan: in this process, in several on one store, or over a Ray cluster."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from baco.bench.generate import Failed, Job, Made, Pull, make
from baco.bench.plan import Plan
from baco.bench.run import Worker, load_pair
from baco.bench.store import Store
from baco.errors import BacoError, InputError, missing_extra

logger = logging.getLogger("baco")

EXECUTORS = ("local", "processes", "ray")

_GRACE = 5.0


def execute(path: Path, executor: str = "local", workers: int = 2) -> None:
    """Makes what the plan of a store lacks; what fails is noted in the store.

    Args:
        path: The store; it knows the plan (`baco.bench.run.prepare`).
        executor: One of `EXECUTORS`.
        workers: Processes, or Ray actors.

    Raises:
        InputError: If there is no such executor, or the number is out of range.
        BacoError: If a pair cannot be had, the store cannot be written, or a worker dies.
    """
    if executor not in EXECUTORS:
        raise InputError(f"unknown executor {executor!r}", hint=f"use {', '.join(EXECUTORS)}")
    if workers < 1:
        raise InputError(f"{workers} workers are too few", hint="use at least 1")
    if executor == "processes":
        _processes(path, workers)
        return
    with Store(path) as store:
        plan = store.plan
    if executor == "local":
        Worker(plan, path).run()
    else:
        _ray(plan, path, workers)


def _processes(path: Path, count: int) -> None:
    """Several processes on one store, which share the work through its claims."""
    context = get_context("spawn")
    errors = context.SimpleQueue()
    children = [
        context.Process(target=_child, args=(path, errors), daemon=True) for _ in range(count)
    ]
    for child in children:
        child.start()
    try:
        for child in children:
            child.join()
    except BaseException:
        for child in children:
            child.join(_GRACE)  # an interrupt reaches them too; they give their claims back
            child.kill()
        raise
    if not errors.empty():
        message, hint = errors.get()
        raise BacoError(message, hint=hint)
    codes = [child.exitcode for child in children if child.exitcode]
    if codes:
        raise BacoError(
            f"{len(codes)} of {count} worker processes ended early (exit code {codes[0]})",
            hint="finished samples are kept: run the same command again",
        )


def _child(path: Path, errors: Any) -> None:
    """What one process does."""
    try:
        execute(path)
    except BacoError as error:
        errors.put((error.message, error.hint))
    except KeyboardInterrupt:
        return


def _ray(plan: Plan, path: Path, workers: int) -> None:
    """Actors that each hold the pair; this process alone reads and writes the store."""
    try:
        import ray
    except ImportError as error:
        raise missing_extra("ray", "ray") from error
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    try:
        Worker(plan, path, lambda name, wanted: RayMaker(ray, name, wanted, workers)).run()
    finally:
        if ours:
            ray.shutdown()


class Remote:
    """Makes samples where it lives; what Ray makes an actor of.

    Args:
        name: Name of the pair.
        plan: The plan.
    """

    def __init__(self, name: str, plan: Plan) -> None:
        self._plan = plan
        self._pair = load_pair(name, plan)

    def revision(self) -> str:
        """The revision of the pair that was loaded."""
        return self._pair.revision

    def make(self, jobs: Sequence[Job]) -> list[Made | Failed]:
        """Makes the samples of some jobs."""
        batches = itertools.chain([list(jobs)], itertools.repeat([]))
        return list(make(self._pair, self._plan, lambda rows: next(batches)))


class RayMaker:
    """Makes samples on actors of a Ray cluster.

    Args:
        ray: The module.
        name: Name of the pair.
        plan: The plan.
        workers: Number of actors.
    """

    def __init__(self, ray: Any, name: str, plan: Plan, workers: int) -> None:
        self._ray = ray
        self._rows = plan.run.max_rows
        gpus = 1 if plan.run.device.startswith("cuda") else 0
        make_actor = ray.remote(num_cpus=1, num_gpus=gpus)(Remote).remote
        self._actors = [make_actor(name, plan) for _ in range(workers)]
        self.revision = self._get(self._actors[0].revision.remote())

    def _get(self, reference: Any) -> Any:
        """Waits for a result; errors of BaCo come through as they were raised."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, BacoError):
                raise cause from None
            raise BacoError(f"a Ray worker failed: {cause}", hint="run it again") from error
        except self._ray.exceptions.RayError as error:
            raise BacoError(
                f"a Ray worker died: {error}",
                hint="finished samples are kept: run the same command again",
            ) from error

    def make(self, pull: Pull) -> Iterator[Made | Failed]:
        """Makes samples for as long as there are jobs; every actor works on jobs of its own."""
        busy: dict[Any, Callable[..., Any]] = {}
        free = [actor.make.remote for actor in self._actors]
        while True:
            while free and (jobs := pull(self._rows)):
                method = free.pop()
                busy[method(list(jobs))] = method
            if not busy:
                return
            (ready,), _ = self._ray.wait(list(busy), num_returns=1)
            free.append(busy.pop(ready))
            yield from self._get(ready)
