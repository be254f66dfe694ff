"""The step under torch.compile: nothing in it branches on what is in a tensor, but its one look."""

from __future__ import annotations

import pytest
import torch

from baco.engine import Warp, noise
from baco.engine.noise import Draws
from baco.engine.scores import Context, score
from baco.engine.step import Choice, offer, step
from baco.routers import parse
from support.engines import small_vocabulary

VOCABULARY = small_vocabulary()
ROWS = 8
CONTEXT = Context(
    torch.tensor([noise.row_key(0, "compiled", i) for i in range(ROWS)]),
    torch.arange(ROWS),
    torch.zeros(ROWS, dtype=torch.int64),
    torch.arange(ROWS) % 2,
)


def logits() -> torch.Tensor:
    """Flat ones, of which the filters keep more than are sorted first on a CPU."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, ROWS, VOCABULARY.size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    "how",
    [
        Warp(),
        Warp(temperature=0),
        Warp(temperature=0.7, top_p=1),
        Warp(top_k=40, min_p=0.01),
        Warp(typical=0.5),
        Warp(top_n_sigma=1.0),
        Warp(xtc=0.05, top_p=1),
        Warp(temperature=0.8, top_n_sigma=2.0, top_k=40, typical=0.9, xtc=0.02, xtc_probability=1),
    ],
    ids=str,
)
def test_offers_are_one_graph(how: Warp) -> None:
    def offered(raw: torch.Tensor) -> torch.Tensor:
        scores = score(raw, how, VOCABULARY, check=False)
        return offer(scores, CONTEXT.state, Draws.of(CONTEXT.keys, CONTEXT.t), VOCABULARY)

    raw = logits()[0]
    torch._dynamo.reset()
    compiled = torch.compile(offered, backend="eager", fullgraph=True)
    assert compiled(raw).tolist() == offered(raw).tolist()


@pytest.mark.parametrize("spec", ["p-punc@0.4", "h@1", "rand@0.5"])
def test_the_step_breaks_off_only_to_look_for_what_is_rare(spec: str) -> None:
    def chosen(base: torch.Tensor, aligned: torch.Tensor) -> Choice:
        scores = [score(raw, Warp(), VOCABULARY, check=False) for raw in (base, aligned)]
        return step(*scores, CONTEXT, parse(spec), (Warp(), Warp()), VOCABULARY)

    torch._dynamo.reset()
    told = torch._dynamo.explain(chosen)(*logits())
    where = {(frame.name, frame.line) for r in told.break_reasons for frame in r.user_stack[-1:]}
    assert where == {("step", "usual = not bool(rare.any())")}
