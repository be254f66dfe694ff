"""What a worker process of a bench run does in tests: a fake pair, a note of devices, a death."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baco.bench.generate import Failed, Made, Pull
from baco.bench.plan import Plan
from baco.bench.run import BenchWorker, Local, Part
from baco.bench.store import Store


def child(path: Path, part: Part, peers: int, errors: Any) -> None:
    """Stands for `baco.bench.executors._child`.

    A file `deaths-DEVICES` beside the store says how often such a worker is to die by `kill -9`.
    """
    from bench.fake import fake_pair

    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
    with (path.parent / "started.txt").open("a") as file:
        file.write(f"{devices} {peers}\n")
    deaths = path.parent / f"deaths-{devices}"
    left = int(deaths.read_text()) if deaths.exists() else 0
    if left:
        deaths.write_text(str(left - 1))

    class Doomed(Local):
        """Dies with work on its hands."""

        def make(self, pull: Pull) -> Iterator[Made | Failed]:
            for number, made in enumerate(super().make(pull)):
                if left and number == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield made

    def load(name: str, plan: Plan) -> Local:
        return Doomed(fake_pair(), plan)

    with Store(path) as store:
        plan = store.plan
    BenchWorker(plan, path, load, part=part, peers=peers).run()
