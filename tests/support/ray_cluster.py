"""Runs a plan on a Ray of this machine that says it has two GPUs, and kills one of its actors.

Prints how many actors there were.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from pathlib import Path

import psutil
import ray

from baco.bench.executors import execute
from baco.bench.plan import read_plan
from baco.bench.run import prepare
from baco.bench.store import Store


def main() -> None:
    plan, path = read_plan(sys.argv[1]), Path(sys.argv[2])
    ray.init(
        num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False,
        logging_level=logging.ERROR,
    )  # fmt: skip
    prepare(plan, path)
    seen: set[int] = set()

    def watch() -> None:
        killed = False
        while True:
            # Of this Ray alone: there may be others on the machine.
            for process in psutil.Process().children(recursive=True):
                try:
                    if "ray::Remote" in " ".join(process.cmdline()):
                        seen.add(process.pid)
                        with Store(path) as store:
                            begun = sum(store.counts().values()) > 0
                        if begun and not killed:
                            killed = True
                            process.kill()
                except psutil.Error:
                    continue
            time.sleep(0.1)

    threading.Thread(target=watch, daemon=True).start()
    execute(path, "ray")
    print(json.dumps(len(seen)))


if __name__ == "__main__":
    main()
