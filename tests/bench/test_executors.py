"""Other ways of running a plan give the same samples."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Container, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from baco.bench import executors
from baco.bench import run as running
from baco.bench.executors import RESTARTS, RayMaker, execute
from baco.bench.generate import Failed, Made, Pull
from baco.bench.plan import Plan, read_plan
from baco.bench.run import BenchWorker, Local, Part, prepare
from baco.bench.store import Store
from baco.errors import BacoError, InputError
from support import workers

from .fake import begin, content, fake_pair, load, plan, work

PLAN = """
pairs = ["tiny"]
n = 3
[[datasets]]
dataset = "tiny"
limit = 3
[sampling]
max_new_tokens = 24
[run]
max_rows = 8
[[methods]]
method = "aligned"
controls = [1.0, 1.5]
[[methods]]
method = "baco"
router = "p-punc"
controls = [0.2, 0.4]
[metrics]
quality = ["reward@tiny"]
diversity = ["dist_1"]
"""


def run(folder: Path, *options: str) -> list[tuple[object, ...]]:
    """Runs the plan in a process of its own; returns what the store holds."""
    (folder / "plan.toml").write_text(PLAN)
    path = folder / f"{len(options)}.sqlite"
    command = [sys.executable, "-m", "baco", "bench", "run", "plan.toml", "--store", str(path)]
    result = subprocess.run(
        [*command, *options], cwd=folder, capture_output=True, text=True, env=os.environ
    )
    assert result.returncode == 0, result.stderr
    return content(path)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (extra ray)")
def test_ray_makes_what_one_process_makes(tmp_path: Path) -> None:
    found = run(tmp_path, "--executor", "ray", "--workers", "2")
    assert len(found) == 4 * 3
    assert found == run(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (extra ray)")
def test_ray_on_two_gpus_with_a_killed_actor(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(PLAN.replace("limit = 3", "limit = 20"))
    path = tmp_path / "ray.sqlite"
    result = subprocess.run(
        [sys.executable, "-m", "support.ray_cluster", tmp_path / "plan.toml", path],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "is started again" in result.stderr
    assert int(result.stdout.splitlines()[-1]) == 3  # two, and the one that replaced the killed one
    assert content(path) == run_here(tmp_path)


def run_here(folder: Path) -> list[tuple[object, ...]]:
    """What one process makes of the plan that is there."""
    path = folder / "here.sqlite"
    prepare(read_plan(str(folder / "plan.toml")), path)
    execute(path)
    return content(path)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store that knows the fake plan, and nothing more."""
    path = tmp_path / "s.sqlite"
    begin(path, plan())
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """What one process makes of the plan."""
    path = tmp_path_factory.mktemp("one") / "s.sqlite"
    work(path, plan())
    return content(path)


# --- processes -----------------------------------------------------------------------------------


def deaths(store: Path, **often: int) -> None:
    """Lets workers die: so often on which devices."""
    for devices, count in often.items():
        (store.parent / f"deaths-{devices.removeprefix('on')}").write_text(str(count))


def started(store: Path) -> list[str]:
    return sorted((store.parent / "started.txt").read_text().splitlines())


@pytest.fixture
def four_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setattr(executors, "_child", workers.child)
    # Much faster than to start and import anew.
    monkeypatch.setattr(executors, "get_context", lambda _: multiprocessing.get_context("fork"))


def test_every_process_sees_its_own_device(
    store: Path, undisturbed: list[tuple[Any, ...]], four_devices: None
) -> None:
    execute(store, "processes")
    assert started(store) == ["0 4", "1 4", "2 4", "3 4"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2,3"
    assert content(store) == undisturbed
    with Store(store) as opened:
        assert opened.owners() == []


def test_no_more_processes_than_groups(store: Path, four_devices: None) -> None:
    BenchWorker(plan(), store, load, part=Part(0, 2)).run()
    execute(store, "processes", part=Part(0, 24))  # all are there
    execute(store, "processes", part=Part(1, 24))  # two are not
    assert started(store) == ["0 1", "0 2", "1 2"]


def test_processes_that_die_are_started_again(
    store: Path,
    undisturbed: list[tuple[Any, ...]],
    four_devices: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    deaths(store, on0=RESTARTS, on1=1)
    execute(store, "processes", 2)
    assert content(store) == undisturbed
    again = caplog.text.count("it is started again")  # how often depends on who takes what
    assert 1 <= again <= RESTARTS + 1
    assert len(started(store)) == 2 + again


def test_a_process_that_always_dies_leaves_its_work_to_others(
    store: Path, undisturbed: list[tuple[Any, ...]], four_devices: None
) -> None:
    deaths(store, on0=99)
    execute(store, "processes", 2)
    assert content(store) == undisturbed


def test_if_all_always_die_what_is_made_is_kept(store: Path, four_devices: None) -> None:
    deaths(store, on0=99)
    with pytest.raises(BacoError, match=r"worker 1 of 1 ended early .* more than 3 times") as error:
        execute(store, "processes", 1)
    assert "finished samples are kept" in (error.value.hint or "")
    assert started(store) == ["0 1"] * (RESTARTS + 1)


def test_an_error_counts_only_if_something_is_left(
    store: Path,
    undisturbed: list[tuple[Any, ...]],
    four_devices: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def child(path: Path, part: Part, peers: int, errors: Any) -> None:
        if os.environ["CUDA_VISIBLE_DEVICES"] == "0":
            errors.put(("no memory", "make room"))
        else:
            workers.child(path, part, peers, errors)

    monkeypatch.setattr(executors, "_child", child)
    with pytest.raises(BacoError, match="no memory"):
        execute(store, "processes", 1)
    execute(store, "processes", 2)
    assert content(store) == undisturbed
    assert "no memory; nothing is left to make" in caplog.text


def test_what_a_worker_did_not_foresee_is_one_line(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise TypeError("no such option\nand more")

    said: list[tuple[str, str]] = []
    monkeypatch.setattr(executors, "_follow_parent", lambda: None)
    monkeypatch.setattr(executors.BenchWorker, "run", fail)
    with pytest.raises(SystemExit):  # so that it is started again, without a traceback
        executors._child(store, running.WHOLE, 1, SimpleNamespace(put=said.append))
    assert [message for message, _ in said] == ["a worker failed: TypeError: no such option"]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of threads are POSIX")
def test_an_interrupt_waits_until_a_worker_can_end_quietly(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "_follow_parent", lambda: None)
    monkeypatch.setattr(executors.BenchWorker, "run", lambda _: pytest.fail("it went on"))
    executors._hold_interrupts(True)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    executors._child(store, running.WHOLE, 1, None)


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    (tmp_path / "plan.toml").write_text(PLAN.replace("limit = 3", "limit = 40"))
    command = [sys.executable, "-m", "baco", "bench", "run", "plan.toml", "--executor", "processes"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as parent:
        watched = psutil.Process(parent.pid)
        while len(children := watched.children()) < 3:  # two workers, and what tracks resources
            assert parent.poll() is None
            time.sleep(0.05)
        parent.kill()
    gone, alive = psutil.wait_procs(children, timeout=120)
    assert not alive
    assert len(gone) == 3


@pytest.mark.parametrize(("part", "half"), [(running.WHOLE, 72), (Part(1, 2), 36)])
def test_towards_the_end_nobody_takes_more_than_a_share(store: Path, part: Part, half: int) -> None:
    """Two workers, one of which has not begun: it is left half of what there is."""
    if part.first:  # others have made theirs
        BenchWorker(plan(), store, load, part=Part(0, part.of)).run()
    claimed = []

    class Greedy(Local):
        def make(self, pull: Pull) -> Iterator[Made | Failed]:
            jobs = [*pull(10_000), *pull(10_000)]
            claimed.append(sum(len(job.places) for job in jobs))
            given = iter([jobs])
            return super().make(lambda rows: next(given, ()) or pull(rows))

    def greedy(name: str, wanted: Plan) -> Greedy:
        return Greedy(fake_pair(), wanted)

    BenchWorker(plan(), store, greedy, part=part, peers=2).run()
    assert claimed[0] == half  # of 144, or of 72


# --- Ray -----------------------------------------------------------------------------------------


class ActorDied(Exception):
    """As Ray says it."""


class Ref:
    """A call of an actor's method that has not come back yet."""

    def __init__(self, actor: Actor, method: str, args: bytes) -> None:
        self.actor, self.method, self.args = actor, method, args


class Actor:
    """An actor that works when its result is fetched; what goes in and out is pickled."""

    def __init__(self, ray: FakeRay, made: Any) -> None:
        self.ray, self.made, self.alive = ray, made, True
        self.revision = self.exchange = None
        for name in ("revision", "exchange"):
            setattr(self, name, SimpleNamespace(remote=partial(self._call, name)))

    def _call(self, name: str, *args: Any) -> Ref:
        return Ref(self, name, pickle.dumps(args))


class FakeRay:
    """The few functions of Ray that are used, in this process.

    Args:
        deaths: Which exchanges kill their actor, counted over all.
    """

    exceptions = SimpleNamespace(RayError=ActorDied)

    def __init__(self, deaths: Container[int] = ()) -> None:
        self.deaths = deaths
        self.options: dict[str, Any] = {}
        self.exchanges: list[tuple[Any, int]] = []
        self.rng = random.Random(0)

    def remote(self, **options: Any) -> Any:
        self.options = options
        return lambda cls: SimpleNamespace(remote=lambda *args: Actor(self, cls(*args)))

    def wait(self, refs: list[Ref], num_returns: int) -> tuple[list[Ref], list[Ref]]:
        return [self.rng.choice(refs)], []

    def get(self, ref: Ref) -> Any:
        args = pickle.loads(ref.args)
        if ref.method == "exchange":
            self.exchanges.append((ref.actor, len(args[0])))
            if len(self.exchanges) - 1 in self.deaths:
                ref.actor.alive = False
        if not ref.actor.alive:
            raise ActorDied("the actor is dead")
        return pickle.loads(pickle.dumps(getattr(ref.actor.made, ref.method)(*args)))

    def kill(self, actor: Actor) -> None:
        actor.alive = False


@pytest.mark.parametrize(("peers", "wanted", "ours"), [(2, 3, True), (9, 1, True), (2, 6, False)])
def test_processes_share_the_threads_of_one(
    peers: int, wanted: int, ours: bool, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    had, seen = torch.get_num_threads(), []
    monkeypatch.setattr(executors, "_follow_parent", lambda: None)
    monkeypatch.setattr(
        executors.BenchWorker, "run", lambda _: seen.append(torch.get_num_threads())
    )
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if not ours:  # what the user says stands
        monkeypatch.setenv("OMP_NUM_THREADS", "6")
    try:
        torch.set_num_threads(6)
        executors._child(store, running.WHOLE, peers, None)
    finally:
        torch.set_num_threads(had)
    assert seen == [wanted]


def with_ray(store: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch, count: int = 3) -> None:
    """Runs the plan of a store on actors."""
    monkeypatch.setattr(executors, "load_pair", lambda name, plan: fake_pair())
    monkeypatch.setattr(running, "FLUSH_SAMPLES", 1)
    BenchWorker(plan(), store, lambda name, plan: RayMaker(ray, name, plan, count, 2)).run()


def test_actors_take_gpus_and_their_batches_stay_open(
    store: Path, undisturbed: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = FakeRay()
    with_ray(store, ray, monkeypatch)
    assert ray.options == {"num_cpus": 1, "num_gpus": 2}
    assert content(store) == undisturbed
    firsts = {id(actor): jobs for actor, jobs in reversed(ray.exchanges)}
    assert len(firsts) == 3
    assert max(firsts.values()) - min(firsts.values()) <= 1  # dealt evenly
    refilled = [jobs for _, jobs in ray.exchanges if 0 < jobs < max(firsts.values())]
    assert len(refilled) >= 10  # single groups came in while others were being made


@pytest.mark.parametrize("method", ["revision", "exchange"])
def test_a_first_actor_that_always_dies_leaves_its_work_to_others(
    store: Path,
    undisturbed: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class FirstDies(FakeRay):
        """The first of three actors dies whenever it is asked, and so do those in its place."""

        made = 0

        def remote(self, **options: Any) -> Any:
            def new(cls: Any, *args: Any) -> Actor:
                actor = Actor(self, cls(*args))
                actor.alive = self.made in (1, 2)
                self.made += 1
                return actor

            return lambda cls: SimpleNamespace(remote=partial(new, cls))

        def get(self, ref: Ref) -> Any:
            if ref.method != method:
                return pickle.loads(
                    pickle.dumps(getattr(ref.actor.made, ref.method)(*pickle.loads(ref.args)))
                )
            return super().get(ref)

    with_ray(store, FirstDies(), monkeypatch)
    assert content(store) == undisturbed
    assert f"died {RESTARTS + 1} times: the actor is dead; the others do its work" in caplog.text


def test_actors_that_die_are_started_again(
    store: Path,
    undisturbed: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with_ray(store, FakeRay(deaths={0, 7, 20, 21}), monkeypatch)
    assert content(store) == undisturbed
    assert caplog.text.count("died and is started again") == 4


def test_an_actor_that_always_dies_leaves_its_work_to_others(
    store: Path, undisturbed: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unlucky(FakeRay):
        def get(self, ref: Ref) -> Any:
            if ref.method == "exchange" and self.unlucky(ref.actor):
                raise ActorDied("no memory")
            return super().get(ref)

        made = 0

        def remote(self, **options: Any) -> Any:
            def make(cls: Any) -> Any:
                def new(*args: Any) -> Actor:
                    actor = Actor(self, cls(*args))
                    actor.number = self.made  # type: ignore[attr-defined]
                    self.made += 1
                    return actor

                return SimpleNamespace(remote=new)

            return make

        def unlucky(self, actor: Any) -> bool:
            return actor.number == 1 or actor.number >= 3  # the second, and all that replace it

    with_ray(store, Unlucky(), monkeypatch)
    assert content(store) == undisturbed


def test_if_all_actors_always_die_it_is_said(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BacoError, match=r"Ray worker . died 4 times: the actor is dead"):
        with_ray(store, FakeRay(deaths=range(1000)), monkeypatch, 2)


def test_a_cluster_that_cannot_be_joined_is_one_line(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: object) -> None:
        raise ConnectionError("no Ray at HEAD:6379\nand more")

    ray = SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(BacoError, match=r"cannot join the Ray cluster: no Ray at .*:6379 \(start"):
        execute(store, "ray")


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown executor 'slurm'"):
        execute(tmp_path / "s.sqlite", "slurm")
    with pytest.raises(InputError, match="0 workers are too few"):
        execute(tmp_path / "s.sqlite", "ray", 0)
    with pytest.raises(InputError, match="--workers is for --executor processes or ray"):
        execute(tmp_path / "s.sqlite", "local", 2)
