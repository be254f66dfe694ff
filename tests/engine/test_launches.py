"""What a cycle costs beside the models, counted: operations, and waits of the host for the device.

On a GPU every operation is a launch, and whatever brings a value to the host waits for all that
was launched before. Both are counted here as they are dispatched, on a CPU: views launch nothing,
and what runs inside the models does not count.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from baco.engine import Request, Warp
from baco.engine.noise import row_key
from baco.engine.opening import open_engine
from baco.engine.partner import Partner
from baco.engine.units import UnitTable
from baco.engine.warp import HEADS
from baco.prompts import conversation_of
from baco.routers import parse
from support import golden
from support.engines import random_pair

VIEWS = {
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "diagonal", "expand",
    "lift_fresh", "narrow", "permute", "resolve_conj", "resolve_neg", "select", "slice",
    "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view",
}  # fmt: skip
WAITS = {"equal", "masked_select", "nonzero", "_unique2", "unique_dim"}
LOOKS = ("__bool__", "__int__", "__float__", "__index__", "item", "cpu")


class Launches(TorchDispatchMode):
    """Counts what is dispatched, but for what a model does.

    Attributes:
        operations: Operations that launch something.
        waits: Those of them, and copies to the host, that the host waits for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.waits = 0
        self.inside = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.inside:
            name = func.overloadpacket.__name__
            self.operations += name not in VIEWS
            masked = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
                x is not None and x.dtype == torch.bool for x in args[1]
            )
            ragged = name == "repeat_interleave" and not (kwargs or {}).get("output_size")
            self.waits += name in WAITS or masked or ragged
        return func(*args, **(kwargs or {}))

    @contextmanager
    def outside(self, *models: torch.nn.Module) -> Iterator[None]:
        """Leaves out what some models do, and counts copies to the host."""

        def quiet(plain: Callable[..., Any]) -> Callable[..., Any]:
            def forward(*args: Any, **more: Any) -> Any:
                self.inside = True
                try:
                    return plain(*args, **more)
                finally:
                    self.inside = False

            return forward

        def waiting(plain: Callable[..., Any]) -> Callable[..., Any]:
            def look(*args: Any) -> Any:
                # How much of its cache each row fills is kept on the host.
                host = sys._getframe(1).f_code.co_filename.endswith("hf.py")
                self.waits += not self.inside and not host
                return plain(*args)

            return look

        with contextlib.ExitStack() as stack:
            for name in LOOKS:
                plain = waiting(getattr(torch.Tensor, name))
                stack.enter_context(patch.object(torch.Tensor, name, plain))
            stack.enter_context(self)
            # Unit states are kept on the host: their tables there are not the device's.
            stack.enter_context(patch.object(UnitTable, "advance", quiet(UnitTable.advance)))
            before = [model.forward for model in models]
            for model in models:
                model.forward = quiet(model.forward)
            try:
                yield
            finally:
                for model, forward in zip(models, before, strict=True):
                    model.forward = forward


def tiny_pair() -> tuple[Partner, Partner, tuple[int, ...], tuple[int, ...]]:
    tiny = golden.tiny()
    base, aligned = tiny.prompt_ids(conversation_of("Suggest a summer trip destination."))
    return tiny.base, tiny.aligned, base, aligned


def random_models() -> tuple[Partner, Partner, tuple[int, ...], tuple[int, ...]]:
    """Two that hardly ever agree, with flat distributions."""
    return *random_pair("llama", torch.float32), tuple(range(10, 16)), tuple(range(20, 24))


def per_cycle(
    pair: tuple[Any, Any, Any, Any], rows: int, spec: str, warp: Warp, lookahead: Any
) -> tuple[float, float, int]:
    """Returns (operations, waits) of a cycle in the middle of answers, and how many there were.

    What joining and leaving costs is left out.
    """
    base, aligned, *prompts = pair
    engine = open_engine(base, aligned, lookahead=lookahead)
    for i in range(rows):
        engine.submit(Request(*prompts, parse(spec), row_key(0, spec, i), warp, max_new_tokens=40))
    for _ in range(3):
        engine.step()
    count, cycles = Launches(), 0
    with count.outside(base.model, aligned.model):
        while cycles < 12 and not engine.idle:
            engine.step()
            cycles += 1
    return count.operations / cycles, count.waits / cycles, cycles


MOST = (140, 3)
"""Operations beside the models, and waits."""


@pytest.mark.parametrize("pair", [tiny_pair, random_models])
@pytest.mark.parametrize("rows", [1, 10])
@pytest.mark.parametrize("lookahead", ["off", "auto"])
@pytest.mark.parametrize("spec", ["p-punc@0.4", "h@1", "rand@0.5"])
@pytest.mark.parametrize("warp", [Warp(), Warp(temperature=0)], ids=["sampled", "greedy"])
def test_a_cycle_launches_and_waits_little(
    pair: Any, rows: int, spec: str, lookahead: Any, warp: Warp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HEADS, "cpu", HEADS["else"])  # as on a GPU
    operations, waits, cycles = per_cycle(pair(), rows, spec, warp, lookahead)
    print(f"{spec} {lookahead} {warp.temperature} {rows}: {operations:.0f} operations, "
          f"{waits:.1f} waits")  # fmt: skip
    assert cycles >= 5
    assert operations <= MOST[0]
    assert waits <= MOST[1]
