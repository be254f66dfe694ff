"""A word for the state of a checkpoint, so that what was measured on it can be told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SAMPLE = 1 << 20


def revision_of(source: str, config: Any) -> str:
    """Returns a short word that changes when a checkpoint does.

    Args:
        source: Folder or Hub id; empty for a model that came loaded.
        config: The model's configuration.

    Returns:
        For the Hub the start of the commit; for a folder or a file a hash of its weights' sizes,
        beginnings and ends (hashing gigabytes whole would take longer than loading them); else
        ``unknown``.
    """
    folder = Path(source).expanduser()
    if source and folder.is_dir():
        names = ("*.safetensors", "*.bin", "config.json", "adapter_config.json", "tokenizer.json")
        return _hash(sorted({path for name in names for path in folder.glob(name)}))
    if source and folder.is_file():
        return _hash([folder])
    commit = getattr(config, "_commit_hash", None)
    return str(commit)[:12] if commit else "unknown"


def _hash(paths: Sequence[Path]) -> str:
    state = hashlib.blake2b(digest_size=6)
    for path in paths:
        size = path.stat().st_size
        state.update(f"{path.name}\x00{size}\x00".encode())
        with path.open("rb") as file:
            state.update(file.read(_SAMPLE))
            file.seek(max(0, size - _SAMPLE))
            state.update(file.read(_SAMPLE))
    return state.hexdigest()
