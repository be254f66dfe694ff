"""Ways of running a plan: in this process, in several on one store, or over a Ray cluster."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baco.bench.generate import Failed, GroupJob, Made, Pull, make
from baco.bench.places import EnginePlace, found_devices, on_nodes, places
from baco.bench.plan import Plan
from baco.bench.run import WHOLE, BenchWorker, Part, incomplete, load_pair, unmade
from baco.bench.store import Store
from baco.engine.lazy import torch
from baco.errors import BacoError, InputError, first_line, missing_extra
from baco.models.engines import use_threads

if TYPE_CHECKING:
    from baco.pair import Pair

logger = logging.getLogger("baco")

EXECUTORS = ("local", "processes", "ray")

RESTARTS = 3
"""How often a worker that died is started again."""

SPELL = 1.0
"""Seconds after which an actor tells what it has made, at the latest with the next sample."""

_GRACE = 5.0


def check(executor: str, workers: int | None) -> None:
    """Checks how a plan is to be run, as of `execute`.

    Raises:
        InputError: If there is no such executor, or it does not run so many workers.
    """
    if executor not in EXECUTORS:
        raise InputError(f"unknown executor {executor!r}", hint=f"use {', '.join(EXECUTORS)}")
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers are too few", hint="use at least 1")
    if workers is not None and executor == "local":
        raise InputError(
            "--workers is for --executor processes or ray", hint="name one of them, or leave it out"
        )


def execute(
    path: Path, executor: str = "local", workers: int | None = None, part: Part = WHOLE
) -> None:
    """Makes what the plan of a store lacks; what fails is noted in the store.

    Args:
        path: The store; it knows the plan (`baco.bench.run.prepare`).
        executor: One of `EXECUTORS`.
        workers: Processes, or Ray actors, but no more than there are groups to be made; None for
            one on each device, or group of devices.
        part: The part of the plan that is made.

    Raises:
        InputError: If there is no such executor, or the number is out of range.
        BacoError: If a pair cannot be had, the store cannot be written, or workers die too often.
    """
    check(executor, workers)
    with Store(path) as store:
        plan, groups = store.plan, max(1, len(incomplete(store, part)))
    if executor == "local":
        BenchWorker(plan, path, part=part).run()
    elif executor == "processes":
        _processes(path, part, places(plan, found_devices(), workers)[:groups])
    else:
        _ray(plan, path, part, workers, groups)


def _processes(path: Path, part: Part, spots: Sequence[EnginePlace]) -> None:
    """Several processes on one store, which share the work through its claims.

    One that dies is started again; its claims are void, as its process is no more.
    """
    context = get_context("spawn")
    errors = context.SimpleQueue()

    def start(spot: EnginePlace) -> Any:
        # Not daemons: an engine of several devices has processes of its own.
        child = context.Process(target=_child, args=(path, part, len(spots), errors))
        _hold_interrupts(True)  # until the child can end without a traceback
        try:
            with _visible(spot):
                child.start()
        finally:
            _hold_interrupts(False)
        return child

    lives = [RESTARTS] * len(spots)
    running = {start(spot): number for number, spot in enumerate(spots)}
    lost = []
    try:
        while running:
            connection.wait([child.sentinel for child in running])
            for child in [child for child in running if child.exitcode is not None]:
                child.join()
                number = running.pop(child)
                if not child.exitcode:
                    continue
                what = f"worker {number + 1} of {len(spots)} ended early (exit {child.exitcode})"
                if lives[number]:
                    lives[number] -= 1
                    logger.warning("%s: it is started again", what)
                    running[start(spots[number])] = number
                else:
                    logger.warning("%s, for the %s. time", what, RESTARTS + 1)
                    lost.append(what)
    except BaseException:
        until = time.monotonic() + _GRACE
        for child in running:
            # An interrupt reaches them too; they give their claims back.
            child.join(max(0.0, until - time.monotonic()))
            child.kill()
        raise
    if errors.empty() and not lost:
        return
    with Store(path) as store:
        left = unmade(store, part)
    if not errors.empty():
        message, hint = errors.get()
        if left:
            raise BacoError(message, hint=hint)
        logger.warning("%s; nothing is left to make", message)
    elif left:
        raise BacoError(
            f"{lost[0]} more than {RESTARTS} times",
            hint="finished samples are kept: run the same command again",
        )


@contextlib.contextmanager
def _visible(spot: EnginePlace) -> Iterator[None]:
    """Lets processes that start now see the devices of one place only."""
    if not spot:
        yield
        return
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(spot)
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _child(path: Path, part: Part, peers: int, errors: Any) -> None:
    """What one process does. It ends with the process that started it, however that ended."""
    try:
        _hold_interrupts(False)
        threading.Thread(target=_follow_parent, daemon=True).start()
        # Threads of several processes on one core wait for each other most of the time.
        use_threads(max(1, torch.get_num_threads() // peers))
        with Store(path) as store:
            plan = store.plan
        BenchWorker(plan, path, part=part, peers=peers).run()
    except BacoError as error:
        errors.put((error.message, error.hint))
    except KeyboardInterrupt:
        return
    except Exception as error:  # it is started again, as if it had died
        errors.put(
            (
                f"a worker failed: {type(error).__name__}: {first_line(error)}",
                "run it with --executor local, where baco --debug shows where",
            )
        )
        sys.exit(1)


def _hold_interrupts(held: bool) -> None:
    """Holds interrupts back or lets them through, where that can be; new processes inherit it."""
    if hasattr(signal, "pthread_sigmask"):
        how = signal.SIG_BLOCK if held else signal.SIG_UNBLOCK
        signal.pthread_sigmask(how, {signal.SIGINT})


def _follow_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _ray(plan: Plan, path: Path, part: Part, workers: int | None, groups: int) -> None:
    """Actors that each hold the pair; this process alone reads and writes the store."""
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise missing_extra("ray", "ray") from error
    ours = not ray.is_initialized()
    if ours:  # joins the cluster that RAY_ADDRESS names, if it does
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            raise BacoError(
                f"cannot join the Ray cluster: {first_line(error)}",
                hint="start it with ray start, or check RAY_ADDRESS",
            ) from error
    try:
        count, gpus = on_nodes(plan, ray.nodes(), workers)

        def load(name: str, wanted: Plan) -> RayMaker:
            return RayMaker(ray, name, wanted, min(count, groups), gpus)

        BenchWorker(plan, path, load, part=part).run()
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
        self._name = name
        self._plan = plan
        self._given: deque[GroupJob] = deque()
        self._wants = 0
        self._making: Iterator[Made | Failed] | None = None

    @cached_property
    def _pair(self) -> Pair:
        return load_pair(self._name, self._plan)

    def revision(self) -> str:
        """The revision of the pair, which is loaded."""
        return self._pair.revision

    def exchange(self, jobs: Sequence[GroupJob]) -> tuple[list[Made | Failed], int]:
        """Takes jobs, and works on all that it has until something is made.

        Args:
            jobs: More jobs.

        Returns:
            What was made, and for how many more samples there is room.
        """
        self._given.extend(jobs)
        self._making = self._making or make(self._pair, self._plan, self._pull)
        until = time.monotonic() + SPELL
        out: list[Made | Failed] = []
        self._wants = 0
        for made in self._making:
            out.append(made)
            if self._wants or time.monotonic() > until:
                return out, self._wants
        self._making = None  # nothing is left
        return out, self._plan.run.max_rows

    def _pull(self, rows: int) -> list[GroupJob]:
        """Hands on what was given; what is asked beyond a full batch is no need."""
        jobs: list[GroupJob] = []
        while rows > 0 and self._given:
            jobs.append(self._given.popleft())
            rows -= len(jobs[-1].places)
        self._wants = max(0, rows - self._plan.run.max_rows)
        return jobs


@dataclass(eq=False)
class _Hand:
    """An actor and its work.

    Attributes:
        actor: The actor.
        number: Its number.
        wants: For how many more samples it has room.
        held: What it has not made yet, by cell and record.
        fresh: What of it the actor does not know of.
        lives: How often it may be started again.
    """

    actor: Any
    number: int
    wants: int
    held: dict[tuple[str, str], GroupJob] = field(default_factory=dict)
    fresh: list[GroupJob] = field(default_factory=list)
    lives: int = RESTARTS

    def give(self, job: GroupJob) -> None:
        """Adds a job."""
        self.held[job.cell.key, job.record.id] = job
        self.fresh.append(job)
        self.wants -= len(job.places)

    def take(self, made: Made | Failed) -> None:
        """Counts what it has made."""
        key = (made.job.cell.key, made.job.record.id)
        if isinstance(made, Failed) or made.last:
            self.held.pop(key, None)
        elif key in self.held and not made.job.cell.whole_group:
            left = self.held[key]
            places = tuple(place for place in left.places if place != made.sample.index)
            self.held[key] = left._replace(places=places)


class RayMaker:
    """Makes samples on actors of a Ray cluster.

    Args:
        ray: The module.
        name: Name of the pair.
        plan: The plan.
        count: Number of actors.
        gpus: GPUs that each of them takes.
    """

    def __init__(self, ray: Any, name: str, plan: Plan, count: int, gpus: int) -> None:
        self._ray = ray
        self._rows = plan.run.max_rows
        make_actor: Any = ray.remote(num_cpus=1, num_gpus=gpus)(Remote).remote
        self._new: Callable[[], Any] = lambda: make_actor(name, plan)
        self._hands = [_Hand(self._new(), number, self._rows) for number in range(count)]
        self.revision = self._revision()

    def _revision(self) -> str:
        """Asks the first actor that lives for the pair's revision."""
        while True:
            hand = self._hands[0]
            told = self._get(hand.actor.revision.remote())
            if not isinstance(told, Exception):
                return str(told)
            self._again(hand, told)

    def _get(self, reference: Any) -> Any:
        """Waits for a result. Errors of BaCo are raised, others returned: the actor is no more."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, BacoError):
                raise cause from None
            return error

    def _again(self, hand: _Hand, error: Exception) -> bool:
        """Starts an actor again, with all that it has not made.

        Returns:
            Whether it was; not if it was started too often, and others are left to do its work.

        Raises:
            BacoError: If it was started too often, and no other is left.
        """
        cause = getattr(error, "cause", None) or error  # Ray's own text begins with where it was
        reason = first_line(cause)
        with contextlib.suppress(Exception):
            self._ray.kill(hand.actor)
        if not hand.lives:
            self._hands.remove(hand)
            what = f"Ray worker {hand.number + 1} died {RESTARTS + 1} times: {reason}"
            if not self._hands:
                raise BacoError(what, hint="finished samples are kept: run the same command again")
            logger.warning("%s; the others do its work", what)
            return False
        hand.lives -= 1
        logger.warning("Ray worker %s died and is started again: %s", hand.number + 1, reason)
        hand.actor = self._new()
        hand.fresh = list(hand.held.values())
        hand.wants = self._rows - sum(len(job.places) for job in hand.fresh)
        return True

    def make(self, pull: Pull) -> Iterator[Made | Failed]:
        """Makes samples for as long as there are jobs.

        Every actor works on jobs of its own, and gets more as soon as it has room.
        """
        spare: deque[GroupJob] = deque()
        busy: dict[Any, _Hand] = {}
        idle = list(self._hands)
        while True:
            _deal(idle, spare, pull)
            for hand in [hand for hand in idle if hand.held]:
                busy[hand.actor.exchange.remote(hand.fresh)] = hand
                hand.fresh = []
                idle.remove(hand)
            if not busy:
                return
            (ready,), _ = self._ray.wait(list(busy), num_returns=1)
            hand = busy.pop(ready)
            told = self._get(ready)
            if isinstance(told, Exception):
                if not self._again(hand, told):
                    spare.extend(hand.held.values())
                    continue
            else:
                made, hand.wants = told
                for one in made:
                    hand.take(one)
                    yield one
            idle.append(hand)


def _deal(hands: Sequence[_Hand], spare: deque[GroupJob], pull: Pull) -> None:
    """Gives jobs to actors that have room, always to the one with the most."""
    room = sum(max(0, hand.wants) for hand in hands)
    jobs = [spare.popleft() for _ in range(len(spare) if hands else 0)]
    room -= sum(len(job.places) for job in jobs)
    if room > 0:
        jobs += pull(room)
    for job in jobs:
        max(hands, key=lambda hand: hand.wants).give(job)
