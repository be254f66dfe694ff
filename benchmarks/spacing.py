"""How likely a base model is to write no space after a comma, by how the answer follows its prompt.

    baco bench export real.sqlite --out samples.jsonl
    python -m benchmarks.spacing samples.jsonl --pair real

A plain prompt ends in ``Answer:``, and the aligned model begins its answers without a space: as
they are, the base model reads ``Answer:Once upon a time,``. Counted: the samples in which a letter
follows a comma at once; and what the base model gives to tokens that begin with a letter after the
first comma of an answer by the aligned model alone, as it is and with a space before the answer.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path

import torch

import baco
from baco.models.sides import Side, answer_ids
from baco.prompts import conversation_of

TOP_P = 0.9
GLUED = re.compile(r"[A-Za-z],[A-Za-z]")


def count_glued(rows: list[dict[str, object]]) -> None:
    """Prints in how many samples of each setting a letter follows a comma at once."""
    samples, glued = Counter[str](), Counter[str]()
    for row in rows:
        setting = f"{row['curve']}@{row['control']}"
        samples[setting] += 1
        glued[setting] += bool(GLUED.search(str(row["text"])))
    for setting, number in samples.items():
        print(f"{setting:20} {glued[setting]:4} of {number} samples")


@torch.inference_mode()
def glue(side: Side, answers: dict[str, str], gap: str) -> tuple[float, float]:
    """The mean probability of a letter after the first comma: of P, and of its top-p nucleus.

    Args:
        side: The base side of a pair.
        answers: By prompt, answers that begin with a letter and have a comma.
        gap: What stands before an answer.
    """
    letters = torch.tensor([token[:1].isalpha() for token in side.token_bytes])
    found = []
    for prompt, answer in answers.items():
        text = answer_ids(side, gap + answer[: answer.index(",") + 1])
        logits = side.partner.logits([*side.encode(conversation_of(prompt)), *text])
        probs = logits[: len(letters)].double().softmax(-1)
        most, order = probs.sort(descending=True)
        kept = most * (most.cumsum(-1) - most < TOP_P)
        mask = letters[order].double()
        found.append((float(most @ mask), float(kept @ mask / kept.sum())))
    plain, nucleus = zip(*found, strict=True)
    return sum(plain) / len(plain), sum(nucleus) / len(nucleus)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--pair", default="real")
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument(
        "--last",
        default=baco.PlainTemplate.last,
        help="how an open question is written; see PlainTemplate",
    )
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.samples.open(encoding="utf-8")]
    count_glued(rows)
    answers = {
        row["prompt"]: row["text"]
        for row in rows
        if (row["curve"], float(row["control"] or 0), row["index"]) == ("aligned", 1.0, 0)
        and re.match(r"[A-Za-z][^,]*,", row["text"])
    }
    answers = dict(list(answers.items())[: options.prompts])
    template = baco.PlainTemplate(last=options.last.replace("\\n", "\n"))
    pair = baco.load(options.pair, dtype="float32", template=template)
    print(
        f"{len(answers)} answers; a letter after the first comma: mean of P, of the top-p nucleus"
    )
    for gap in ("", " "):
        plain, nucleus = glue(pair.sides[0], answers, gap)
        print(f"  {f'{template.last}{gap}Once ...'!r}  {plain:.4f}  {nucleus:.4f}")


if __name__ == "__main__":
    main()
