"""One model whose weights lie between the two: the rival of every method that runs both.

Source: arXiv 2510.17426. What is ours: the model gets the aligned model's chat template at every
α, and on a LoRA pair α is the scale of the adapter, row by row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from baco.methods.base import PAIR_OF_MODELS, Method, Setting, Task, Update
from baco.methods.models import run_side
from baco.methods.needs import ONE_TOKENIZER

if TYPE_CHECKING:
    from baco.models.sides import Models


def run_interpolate(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """One model with weights (1 - α) base + α aligned, prompted as the aligned one."""
    from baco.models.interpolate import hold, released

    assert isinstance(setting.control, float)
    held = yield from hold(pair, setting.control, wait=setting.seat is not None)
    with released(held.place):
        yield from run_side(held.side, "aligned", tasks, setting, degree=held.degree)


METHODS = (
    Method(
        "interpolate",
        "single model",
        "share α of the aligned model's weights",
        "arXiv 2510.17426",
        run_interpolate,
        default=0.5,
        low=0.0,
        high=1.0,
        up=False,
        needs=PAIR_OF_MODELS | {ONE_TOKENIZER},
        mixes_weights=True,
    ),
)
