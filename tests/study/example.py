"""A small study with hand-written responses, used by tests and for the screenshots in the docs."""

from __future__ import annotations

import json
from pathlib import Path

from baco.study.design import DesignOptions, design
from baco.study.groups import read_groups
from baco.study.protocol import protocol
from baco.study.store import Study

PLAIN = {
    "Suggest a trip for a summer weekend.": [
        "Spend the weekend at the beach. You can swim, read a book and enjoy the sunset.",
        "Go to the beach for the weekend. Swim in the sea, relax and watch the sunset.",
        "A weekend at the beach is perfect: swimming, sunshine and a good book.",
    ],
    "Name a hobby for rainy days.": [
        "Baking bread is a lovely hobby for rainy days.",
        "Baking is a great hobby: try a fresh loaf of bread on a rainy day.",
        "A cosy hobby for rainy days is baking cakes and bread.",
    ],
    "Invent a holiday that should exist.": [
        "National Kindness Day: everyone does one kind thing for a stranger.",
        "Global Kindness Day, on which people do something kind for a stranger.",
        "Kindness Day: a day to do small, kind things for people you do not know.",
    ],
    "Write the first sentence of a mystery.": [
        "It was a dark and stormy night when the phone rang in the detective's office.",
        "The rain hammered the windows when the detective's phone rang at midnight.",
        "At midnight, on a stormy night, the old detective heard the phone ring.",
    ],
    "What could a teacher keep on the desk?": [
        "A potted plant, a cup for pens and a small clock.",
        "A clock, a cup for pens and a little plant.",
        "Pens in a cup, a plant, and a clock to keep time.",
    ],
    "Describe the colour blue to somebody who cannot see.": [
        "Blue is like the cool touch of water on a hot day: calm and refreshing.",
        "Blue feels like cool water over your hands, calm and fresh.",
        "Think of cool, calm water on your skin. That is what blue feels like.",
    ],
}

VARIED = {
    "Suggest a trip for a summer weekend.": [
        "Take the night train to a town whose name you cannot pronounce, and eat what the baker "
        "recommends.",
        "Friday: canoe. Saturday: canoe, sorer. Sunday: the lake is yours.",
        "A mountain hut. No signal, forty kinds of silence, soup at six.",
    ],
    "Name a hobby for rainy days.": [
        "Recording birdsong. Birds sing differently just before the rain stops.",
        "Chess by post with somebody on another continent.",
        "Repairing one broken thing in the house, badly, then better.",
    ],
    "Invent a holiday that should exist.": [
        "Unsent Letter Day. Post boxes without addresses stand on every corner.",
        "The Feast of Small Repairs:\n- bring a broken thing\n- leave with somebody else's, mended",
        "Leap Hour, once a year at noon, when no clock counts and nothing is late.",
    ],
    "Write the first sentence of a mystery.": [
        "Every clock in the house had stopped at a different time, and only one of them was lying.",
        "My grandmother left me her house, her debts and a key that fitted neither.",
        "“You are the third me today,” said the librarian.",
    ],
    "What could a teacher keep on the desk?": [
        "A jar of questions nobody could answer yet.",
        "A stapler, tea, and a globe with the wrong borders: it starts arguments.",
        "Nothing at all: an empty desk invites pupils to put something on it.",
    ],
    "Describe the colour blue to somebody who cannot see.": [
        "The hum of a refrigerator at three in the morning; the smell of snow before it falls.",
        "Blue is what a long, held cello note would be if it had a temperature.",
        "You know how a hand in your hand feels, a moment after it has let go? Pale blue.",
    ],
}


def write_groups(folder: Path) -> list[Path]:
    """Writes the two methods as JSONL files with made-up automatic scores."""
    paths = []
    for name, groups in (("plainwriter", PLAIN), ("variedwriter", VARIED)):
        path = folder / f"{name}.jsonl"
        rows = [
            {
                "prompt": prompt,
                "generations": texts,
                "quality": [6 + 0.1 * ((at + place) % 5) for place in range(len(texts))],
                "scores": {"diversity": at + (3.0 if name == "variedwriter" else 0.0)},
            }
            for at, (prompt, texts) in enumerate(groups.items())
        ]
        path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
        paths.append(path)
    return paths


def make_study(
    folder: Path, *, annotators: int = 4, prompts: int = 4, seed: int = 0, ties: bool = True
) -> Study:
    """A study of the two methods with some annotators."""
    groups = [group for path in write_groups(folder) for group in read_groups(path)]
    plan = design(groups, DesignOptions(prompts=prompts, bins=1, shortest=1, seed=seed))
    study = Study.create(
        folder / "study.sqlite",
        plan,
        title="Ideas",
        seed=seed,
        protocol=protocol(ties=ties, contact="Ada Example, ada@example.org"),
    )
    study.add_annotators([None] * annotators)
    return study
