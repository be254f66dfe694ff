"""What annotators are asked: phases, questions, scales, and our own instructions and consent text.

The paper's instruction table (App. G.3, Table A14) is only partly at hand, so the wording here is
our own; it asks for the same judgements: quality from 1 to 5 a response, diversity between two
groups (overall, format, content), and the single most creative response.
"""

from __future__ import annotations

from typing import Any, Literal

Phase = Literal["quality", "diversity", "creativity"]
StudyQuestion = Literal["quality", "overall", "format", "content", "creativity"]

PHASES: tuple[Phase, ...] = ("quality", "diversity", "creativity")
DIVERSITY: tuple[StudyQuestion, ...] = ("overall", "format", "content")
QUESTIONS: tuple[StudyQuestion, ...] = ("quality", *DIVERSITY, "creativity")
RATINGS = range(1, 6)
TIE = "tie"
SIDES = ("A", "B")

PHASE_OF: dict[str, Phase] = {
    "quality": "quality",
    **dict.fromkeys(DIVERSITY, "diversity"),
    "creativity": "creativity",
}

SCALE = {1: "Poor", 2: "Weak", 3: "Fair", 4: "Good", 5: "Excellent"}

WORDING: dict[str, dict[str, str]] = {
    "quality": {
        "title": "Quality",
        "ask": "How good is each response?",
        "help": "Rate every response by itself: first fluency, then relevance, then substance.",
    },
    "overall": {
        "title": "Overall",
        "ask": "Which group is more diverse?",
        "help": "Your impression of the group as a whole.",
    },
    "format": {
        "title": "Format",
        "ask": "Which group varies more in form?",
        "help": "Layout, opening, tone, length, list or prose: how things are said.",
    },
    "content": {
        "title": "Content",
        "ask": "Which group varies more in ideas?",
        "help": "Topics, facts, suggestions, stories: what is said.",
    },
    "creativity": {
        "title": "Creativity",
        "ask": "Which single response is the most creative?",
        "help": "Original and also of value: surprising, yet it answers the prompt.",
    },
}

INSTRUCTIONS: list[dict[str, Any]] = [
    {
        "title": "What you will do",
        "blocks": [
            "You will read prompts that somebody gave to computer programs, and the responses"
            " that came back. For every prompt there are three short steps. Nobody is tested:"
            " your honest impression is what the study needs.",
        ],
    },
    {
        "title": "Step 1. Quality: rate each response from 1 to 5",
        "blocks": [
            "Judge each response by itself, not against its neighbours. Weigh three things, "
            "the first one most:",
            [
                "Fluency. Does it read like natural, correct language, without garbled words?",
                "Relevance. Does it do what the prompt asks?",
                "Substance. Does it say something meaningful, useful or interesting?",
            ],
            [
                "1 Poor: garbled, or it does not answer the prompt.",
                "2 Weak: it has serious faults.",
                "3 Fair: it answers, with visible faults or little to say.",
                "4 Good: it answers well, with small faults at most.",
                "5 Excellent: nothing you would want to change.",
            ],
            "Two responses may get the same rating. A short response can be excellent and a "
            "long one poor.",
        ],
    },
    {
        "title": "Step 2. Diversity: compare two groups",
        "blocks": [
            "The same responses now stand in two groups, A and B. Say which group has more "
            "variety inside it, in three respects:",
            [
                "Overall: your impression as a whole.",
                "Format: variety in how things are said, such as layout, opening, tone or length.",
                "Content: variety in what is said, such as topics, ideas, facts or stories.",
            ],
            "Example. The prompt is: Name a hobby for rainy days. If a group says “Try baking"
            " bread.”, “Try baking a cake.” and “Try baking cookies.”, both form and ideas "
            "are alike. If it says “Try chess.”, “Try pottery.” and “Try birdsong "
            "recordings.”, the form is alike but the ideas differ. If one response is a "
            "single word, one a list and one a little story, and all are about baking, the "
            "form differs and the ideas are alike.",
            "Judge variety only. Do not let a group win because its responses are better: "
            "that was step 1.",
        ],
    },
    {
        "title": "Step 3. Creativity: pick one response",
        "blocks": [
            "Of all responses to the prompt, pick the single most creative one: original, and"
            " of value as an answer. A response that is only strange is not creative. If "
            "several are close, go with your first impression.",
        ],
    },
    {
        "title": "Good to know",
        "blocks": [
            [
                "Every click is saved at once. Close the page whenever you like; your "
                "personal link brings you back to where you were, on any device.",
                "You can go back and change an answer until the study ends.",
                "Everything works with the keyboard; press ? to see the keys.",
                "Please work alone, and keep your link to yourself.",
                "Take breaks. A tired judgement helps nobody.",
            ],
        ],
    },
]
"""Parts of the page that must be read first; a block is a paragraph, or a list of points."""

CONSENT = (
    "Your ratings, choices, comments and the time you spend on each prompt are stored and will be "
    "analysed and published as research results, without your name. Taking part is voluntary. "
    "You may stop at any moment, without giving a reason, download everything stored about you, "
    "and delete it, from the menu of this page. The responses were written by computer programs "
    "and may be wrong or unpleasant; leave unanswered whatever you do not wish to judge."
)


def protocol(*, ties: bool = True, consent: str = "", contact: str = "") -> dict[str, Any]:
    """The study's wording, as stored with the study and sent to the page.

    Args:
        ties: Whether the diversity questions offer "About the same". Creativity never does: the
            paper asks for the single most creative response.
        consent: Consent text in place of ours.
        contact: Whom annotators can ask.

    Returns:
        Plain data for JSON.
    """
    return {
        "ties": ties,
        "scale": {str(value): label for value, label in SCALE.items()},
        "wording": WORDING,
        "instructions": INSTRUCTIONS,
        "consent": consent or CONSENT,
        "contact": contact,
    }
