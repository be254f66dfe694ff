"""Triton on a CPU, emulated: vLLM finds a driver, and Triton's own interpreter runs the kernels.

So vLLM does here what it does by default wherever Triton is: it takes its model runner V2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

TESTS = Path(__file__).parents[2]

ASKED = os.environ.get("BACO_TEST_TRITON") == "1"
"""Whether tests run as where Triton is."""

COLD = {"kernel_config": {"enable_jit_warmup": False}} if ASKED else {}
"""vLLM 0.33.0 warms V2 up on CPUs too, with kernels that the interpreter cannot run;
`support.oracle.warm_up` runs the others."""


def install(folder: Path, environment: MutableMapping[str, str]) -> None:
    """Lets this process and those that it starts find the emulation.

    Args:
        folder: An empty folder that lives as long as they.
        environment: This process's environment.
    """
    made = folder / "triton_cpu-0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: triton-cpu\nVersion: 0\n")
    (made / "entry_points.txt").write_text("[triton.backends]\ncpu = support.triton_cpu\n")
    paths = [str(folder), str(TESTS)]
    sys.path += paths
    before = [environment["PYTHONPATH"]] if "PYTHONPATH" in environment else []
    environment["PYTHONPATH"] = os.pathsep.join([*paths, *before])
    environment["TRITON_INTERPRET"] = "1"
    from triton import backends

    backends.backends.update(backends._discover_backends())  # it may have looked before
