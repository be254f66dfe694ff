"""What cannot run inside vLLM is refused before anything reaches it."""

from __future__ import annotations

import pytest

from baco.engine import Request, Warp
from baco.engine.blend import Blend
from baco.errors import UnsupportedError
from baco.routers import parse
from baco.vllm.engine import VllmEngine


class Untouched:
    """A runtime that must not be given any work."""

    window = 100

    def join(self) -> int:
        return 0

    def leave(self, owner: int) -> None:
        pass

    def submit(self, *_: object) -> None:
        pytest.fail("a request got through")


@pytest.mark.parametrize(
    "more",
    [
        {"blend": Blend("linear", 0.5)},
        {"warp": Warp(top_n_sigma=1)},
        {"warp": Warp(typical=0.5)},
        {"warp": Warp(xtc=0.1)},
    ],
)
def test_blends_and_filters_that_vllm_lacks(more: dict) -> None:
    engine = VllmEngine(Untouched(), "baco", (100, 100))  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match=r"not available from vLLM pairs.*engine baco"):
        engine.submit(Request((1,), (1,), parse("rand", 0), 0, **more))
