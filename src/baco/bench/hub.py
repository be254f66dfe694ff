"""Rows of a dataset on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from baco.errors import InputError, missing_extra
from baco.reading import JSON, TABLES

SPLITS = ("test", "validation", "train")
"""The split that is taken where none is asked for: the first of these that there is."""


def names_a_file(source: str | Path) -> bool:
    """Whether a source is a file, rather than a hub id: by what it is, or how its name ends."""
    path = Path(source).expanduser()
    ends = (".parquet", ".txt", *JSON, *TABLES)
    return path.exists() or len(path.parts) != 2 or path.suffix.lower() in ends


def read_hub(ident: str, split: str = "", revision: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Downloads a dataset, or takes it from the hub's cache.

    Args:
        ident: Its id, ``OWNER/NAME``.
        split: Its split; empty for the first of `SPLITS`.
        revision: Branch, tag or commit; empty for the newest.

    Returns:
        Each row with the place where it stands, for messages.

    Raises:
        InputError: If there is no such dataset or split, or the hub cannot be reached.
        BacoError: If the package ``datasets`` is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise missing_extra("datasets", "bench") from error
    from baco.models.checkpoints import hub_is_near

    if not datasets.config.HF_HUB_OFFLINE and not hub_is_near():
        raise InputError(
            f"cannot load {ident!r}: the hub cannot be reached",
            hint="give a local file as source; HF_HUB_OFFLINE=1 uses what was downloaded before",
        )
    try:
        if not split:
            known = datasets.get_dataset_split_names(ident, revision=revision or None)
            split = next((s for s in SPLITS if s in known), known[0])
        rows = list(datasets.load_dataset(ident, split=split, revision=revision or None))
    except Exception as error:  # its client raises whatever its transports raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"cannot load {ident!r} from the hub: {reason}",
            hint="check the name and the network, or give a local file as source",
        ) from error
    return [(f"{ident}:{split}, row {number}", row) for number, row in enumerate(rows, 1)]
