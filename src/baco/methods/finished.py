"""What becomes of a row that was read to its end: its sample, or another draw."""

from __future__ import annotations

from typing import Any

from baco.engine.request import Cost
from baco.group import Finish, Sample, base_share, switches
from baco.methods.base import MAX_ATTEMPTS, Sampling, Setting
from baco.methods.reader import Reader
from baco.prompts import Conversation, as_json


def too_short(reader: Reader, finish: Finish | None, attempt: int, sampling: Sampling) -> bool:
    """Whether a row stopped by itself too soon and may be drawn again.

    Args:
        reader: What was read.
        finish: Why the model stopped; None if it was made to.
        attempt: Number of the draw, from 0.
        sampling: How it was drawn.

    Paper: §6.2.
    """
    return (
        finish == "stop"
        and not reader.stopped
        and len(reader.ids) < sampling.restart_shorter_than
        and attempt < MAX_ATTEMPTS - 1
    )


def sample_of(
    reader: Reader,
    finish: Finish | None,
    prompt: Conversation,
    index: int,
    setting: Setting,
    *,
    cost: Cost | None,
    attempts: int = 1,
    details: dict[str, Any] | None = None,
) -> Sample:
    """Makes the sample of a finished row.

    Args:
        reader: What was read.
        finish: Why the model stopped; None if a stop string made it.
        prompt: What was asked.
        index: The sample's place in its group.
        setting: How it was made.
        cost: As `Sample`.
        attempts: As `Sample`.
        details: As `Sample`.
    """
    return Sample(
        prompt=as_json(prompt),
        index=index,
        text=reader.text,
        finish_reason="stop_string" if reader.stopped or finish is None else finish,
        seed=setting.sampling.seed,
        method=setting.method.name,
        router=setting.router_name,
        gamma=setting.gamma,
        control=setting.control,
        token_ids=tuple(reader.ids),
        tokens=tuple(reader.strings),
        sources=tuple(reader.sources),
        base_share=base_share(reader.sources, reader.begins),
        switches=switches(reader.sources, reader.begins),
        attempts=attempts,
        details=details,
        cost=cost,
    )
