"""An OpenAI-compatible server for pairs of models, and a playground in the browser.

Needs the extra `serve`. `create_app` makes the ASGI app; `baco serve` runs it.
"""

from __future__ import annotations

from baco.errors import missing_extra

try:
    import fastapi  # noqa: F401
    import prometheus_client  # noqa: F401
except ImportError as error:
    raise missing_extra(error.name or "fastapi", "serve") from error

from baco.serve.app import create_app
from baco.serve.settings import Settings

__all__ = ["Settings", "create_app"]
