"""Recoding: a random noun before the request, and random letters that begin sentences.

Source: arXiv 2603.19519 (Recoding-Decoding), read as abstract and summaries: a priming phrase made
from a common noun stands before the prompt, and a stem of three letters is put at the start of each
sentence, from which the model goes on. The paper's last step, another model that mends the grammar,
is left out, and the words are ours: fewer, and stems of the same nouns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from baco.methods.base import Method, Setting, Task, Update
from baco.methods.models import run_alone
from baco.methods.stems import NOUNS, Stems, chance
from baco.methods.wording import PRIME, with_last

if TYPE_CHECKING:
    from baco.models.sides import Models


def run_recoding(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """A random noun primes the aligned model, and random letters begin its sentences."""
    seed, share = setting.sampling.seed, setting.control
    assert isinstance(share, float)
    asked = []
    for task in tasks:
        noun = NOUNS[chance(seed, task, "noun") % len(NOUNS)].upper()
        words = PRIME.format(noun=noun, request=task.prompt[-1].content)
        asked.append(replace(task, asked=with_last(task.prompt, words), details={"noun": noun}))
    side = pair.sides[1]

    def stems(task: Task, attempt: int) -> Stems:
        return Stems(side, task, seed, share, attempt)

    yield from run_alone(pair, "aligned", asked, setting, stems=stems)


METHODS = (
    Method(
        "recoding",
        "decoding",
        "share of sentences that begin with random letters",
        "arXiv 2603.19519",
        run_recoding,
        default=1.0,
        low=0.0,
        high=1.0,
        needs=frozenset({"aligned logits"}),
        rewords=True,
    ),
)
