"""Words for the state of a checkpoint and of a pair, so that what they made can be told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baco.prompts import PlainTemplate

_SAMPLE = 1 << 20

_DECISIVE = (
    "*.safetensors", "*.bin", "config.json", "adapter_config.json", "generation_config.json",
    "tokenizer*", "chat_template*", "special_tokens_map.json", "added_tokens.json", "vocab*",
    "merges.txt", "*.py",
)  # fmt: skip
"""Files of a folder on which it depends what a model reads and writes."""


def revision_of(source: str, config: Any) -> str:
    """Returns a short word that changes when a checkpoint does.

    Args:
        source: Folder or Hub id; empty for a model that came loaded.
        config: The model's configuration.

    Returns:
        For the Hub the start of the commit; for a folder or a file a hash of the sizes, beginnings
        and ends of weights, tokenizer, templates and configuration (hashing gigabytes whole would
        take longer than loading them); else ``unknown``.
    """
    folder = Path(source).expanduser()
    if source and folder.is_dir():
        found = {path for name in _DECISIVE for path in folder.glob(name) if path.is_file()}
        return _hash(sorted(found))
    if source and folder.is_file():
        return _hash([folder])
    commit = getattr(config, "_commit_hash", None)
    return str(commit)[:12] if commit else "unknown"


def pair_revision_of(
    base: str, aligned: str, base_prompt: str, template: PlainTemplate | None
) -> str:
    """Returns a short word that changes when either side does, or how the base side is asked.

    Args:
        base: The base side's own word.
        aligned: The aligned side's.
        base_prompt: How the base side is prompted, ``plain`` or ``chat``.
        template: How its plain prompt is written; None as by default.
    """
    how = "" if base_prompt == "plain" and template in (None, PlainTemplate()) else base_prompt
    if how == "plain":
        how = hashlib.blake2b(repr(template).encode(), digest_size=6).hexdigest()
    return f"{base}+{aligned}{how and '+'}{how}"


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
