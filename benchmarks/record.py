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


def keep(name: str, result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Writes one result.

    Args:
        name: Name of the file, without its ending.
        result: What was asked for and what was measured.
        folder: Where to.

    Returns:
        The file.
    """
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "baco": __version__,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**result, "machine": machine}, indent=1) + "\n", encoding="utf-8")
    print(f"kept in {path}")
    return path
