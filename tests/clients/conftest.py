"""A server with the bundled pair, in a process of its own: clients have their own environment."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """The address of `baco serve`; BACO_COMMAND says how to call `baco` where it is not here."""
    command = shlex.split(os.environ.get("BACO_COMMAND", f"{sys.executable} -m baco"))
    with subprocess.Popen(
        [*command, "serve", "--pair", "tiny", "--port", "0"], stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            for line in server.stderr:
                if found := re.search(r"API (http://\S+)/v1", line):
                    break
            else:
                raise AssertionError("the server did not start")
            yield found[1]
        finally:
            server.terminate()
