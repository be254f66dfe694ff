"""BaCo: base-aligned model collaboration for diverse answers that are all good.

``import baco`` is light: torch and transformers are imported when a pair is loaded.
"""

from __future__ import annotations

__version__ = "0.1.0"
