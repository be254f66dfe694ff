"""Loading takes turns: transformers cannot load two models at the same time.

While it loads, transformers swaps methods of its classes for empty ones, `tie_weights` among them,
and puts back what it found. Two loads that overlap in two threads put back each other's empty
methods, for good: from then on every model of the process whose embeddings are tied loads without
its output layer ("Cannot copy out of meta tensor", or random weights).
"""

from __future__ import annotations

import threading

LOADING = threading.RLock()
"""Held while a model is loaded; a load within a load may go on."""
