"""Starts the real server as a process of its own and stops it again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

START = """
import sys, uvicorn
from pathlib import Path
from baco.study.app import create_app
from baco.study.store import Study

class Loud(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)

study = Study.open(Path(sys.argv[1]))
Loud(uvicorn.Config(create_app(study), port=0, log_level="error")).run()
"""


@contextmanager
def server(path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yields the process and its address once it answers; kills it at the end."""
    assert uvicorn.__version__
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
