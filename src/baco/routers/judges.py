"""Judges for the router `judge`: the aligned model itself, or a model behind an HTTP interface.

A judge is asked once per unit whether the answer may go on freely here, and whether the word that
the base model proposes is acceptable. Our own prompt: the paper's (Table A16) is not at hand.

Paper: App. A.2 (-JUDGE), §5.2.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from baco.engine.lazy import torch
from baco.engine.scores import finite
from baco.errors import PairError
from baco.prompts import Conversation, Message

if TYPE_CHECKING:
    from baco.metrics.chat import ChatJudge
    from baco.models.sides import Models
    from baco.routers.judge import WordJudge

INSTRUCTIONS = """\
Somebody is writing an answer word by word, and you decide whether the next word may be an \
unusual one.

The request:
{request}

The answer so far:
{answer}

The proposed next word: {proposal}
The usual next word: {usual}

Say yes if both hold: (1) at this place the answer could sensibly go on in several different ways, \
and (2) the proposed next word is reasonable and meaningful there. Otherwise say no. Punctuation, \
line breaks and grammatical words leave no room: say no for them.
{form}"""
"""The question to the judge; the one place where it is written."""

AS_WORD = "Reply with one word: yes or no."
AS_JSON = 'Reply with JSON and nothing else: {"yes": true} or {"yes": false}.'


def question(request: Conversation, form: str, answer: str, proposal: str, usual: str) -> str:
    """Writes the question to the judge.

    Args:
        request: The conversation that is being answered.
        form: `AS_WORD` or `AS_JSON`.
        answer: The answer so far.
        proposal: What the base model would write next.
        usual: What the aligned model would write next.
    """
    turns = "\n".join(f"{message.role}: {message.content}" for message in request)
    return INSTRUCTIONS.format(
        request=turns,
        answer=answer.strip() or "(nothing yet)",
        proposal=repr(proposal),
        usual=repr(usual),
        form=form,
    )


def _text(pair: Models, ids: list[int]) -> str:
    return b"".join(pair.token_bytes[i] for i in ids).decode(errors="replace")


def aligned_judge(pair: Models) -> Callable[[Conversation], WordJudge]:
    """Makes the pair's aligned model the judge: one forward, is "yes" likelier than "no"?

    Args:
        pair: The pair.

    Returns:
        A function from a conversation to its judge. If the question does not fit into the
        context window the judge says no.
    """
    side = pair.sides[1]
    logger = logging.getLogger("baco")

    @cache
    def words() -> tuple[torch.Tensor, torch.Tensor]:
        """The ids that begin a yes and those that begin a no."""
        found: dict[str, list[int]] = {"yes": [], "no": []}
        for i, data in enumerate(side.token_bytes):
            word = data.decode(errors="replace").strip().lower()
            if word in found:
                found[word].append(i)
        if not (found["yes"] and found["no"]):
            raise PairError(
                f"{side.label} has no token for yes and no, so it cannot judge",
                hint="name an HTTP judge: --judge-url and --judge-model",
            )
        return torch.tensor(found["yes"]), torch.tensor(found["no"])

    def of(request: Conversation) -> WordJudge:
        def judge(emitted: list[int], base: int, aligned: int) -> bool:
            texts = (_text(pair, ids) for ids in (emitted, [base], [aligned]))
            text = question(request, AS_WORD, *texts)
            ids = list(side.encode((Message("user", text),)))
            if len(ids) >= side.partner.context_window:
                logger.warning("the judge's question is longer than the context window: it says no")
                return False
            raw = finite(side.partner.logits(ids).log_softmax(-1), side.partner.label).cpu()
            yes, no = words()
            return bool(raw[yes].logsumexp(0) > raw[no].logsumexp(0))

        return judge

    return of


def http_judge(pair: Models, client: ChatJudge) -> Callable[[Conversation], WordJudge]:
    """Makes a model behind an OpenAI-compatible interface the judge.

    Args:
        pair: The pair whose tokens are judged.
        client: The connection. Replies cost; `client.cost` says how much.

    Returns:
        A function from a conversation to its judge; a reply of the wrong form counts as no.
        Results then depend on the remote model and are outside the exactness guarantee.
    """

    def read(reply: object) -> bool | None:
        found = reply.get("yes") if isinstance(reply, dict) else None
        return found if isinstance(found, bool) else None

    def of(request: Conversation) -> WordJudge:
        def judge(emitted: list[int], base: int, aligned: int) -> bool:
            texts = (_text(pair, ids) for ids in (emitted, [base], [aligned]))
            text = question(request, AS_JSON, *texts)
            return client.ask_for([{"role": "user", "content": text}], read) is True

        return judge

    return of
