"""The same command makes the same passes in every process, whatever else the machine does."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from baco.engine import Engine, Request
from baco.engine.noise import row_key
from baco.routers import parse
from support.engines import fake_pair, run

RUN = """
import json
import baco

out = []
for dtype in ("float32", "bfloat16"):
    pair = baco.load("tiny", dtype=dtype)
    for n in (1, 10, 32):
        group = pair.generate(
            "Tell me a short story about a fox.", n=n, router="p-punc@0.3", max_new_tokens=12
        )
        rows = [(s.token_ids, s.sources, s.cost) for s in group.samples]
        out.append((dtype, n, rows, group.stats))
print(json.dumps(out))
"""


def made() -> list[object]:
    found = subprocess.run(
        [sys.executable, "-c", RUN], capture_output=True, text=True, timeout=1200, check=False
    )
    assert found.returncode == 0, found.stderr
    out: list[object] = json.loads(found.stdout)
    return out


@pytest.mark.slow
def test_three_processes_and_two_busy_loops() -> None:
    first = made()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        second = made()
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert len(first) == 6
    assert first == second == made()


def test_an_engine_forgets_what_it_learned_once_it_is_idle() -> None:
    def asked(spec: str, count: int) -> list[Request]:
        return [
            Request((1, 2), (3, 4), parse(spec), row_key(0, "p", i), max_new_tokens=60)
            for i in range(count)
        ]

    pair = fake_pair(end=-99)
    fresh, used = Engine(*pair, draft="prompt-lookup"), Engine(*pair, draft="prompt-lookup")
    run(used, asked("rand@1", 3))
    before = used.stats
    assert run(used, asked("p-punc@0.3", 2)) == run(fresh, asked("p-punc@0.3", 2))
    spent = [after - b for after, b in zip(used.stats, before, strict=True)]
    assert spent == list(fresh.stats)
