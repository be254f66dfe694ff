"""Keeps what a benchmark measured, and on what, in `benchmarks/results/NAME.json`."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

from baco import __version__

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Describes the machine, without naming it."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "baco": __version__,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _processor() -> str:
    """The processor's model where Linux tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def keep(name: str, result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Writes one result.

    Args:
        name: Name of the file, without its ending.
        result: What was asked for and what was measured.
        folder: Where to.

    Returns:
        The file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**result, "machine": machine()}, indent=1) + "\n", encoding="utf-8")
    print(f"kept in {path}")
    return path
