"""The plans that come with the package: `tiny`, the paper's tasks, and those of fetched pairs."""

from __future__ import annotations

from importlib.resources import files
from string import Template
from typing import NamedTuple

from baco.errors import UnknownNameError


class TaskValues(NamedTuple):
    """What a task of the paper puts into the template.

    Attributes:
        about: What is asked, in words.
        dataset: Lines of its table in the plan.
        max_new_tokens: The limit of a sample.
        mean_tokens: Expected length of a sample.
        prompt_tokens: Expected length of a prompt.
    """

    about: str
    dataset: str
    max_new_tokens: int
    mean_tokens: int
    prompt_tokens: int


class PairValues(NamedTuple):
    """What a pair puts into the template.

    Attributes:
        role: What it is for.
        dtype: Precision.
        room: Tokens that all samples decoded at a time may have together at their limit.
        tokens_per_second: Expected speed.
        cache_bytes_per_token: What the caches of both models need for a token of a row.
        measured_on: On what machine these were measured, or that they are a guess.
    """

    role: str
    dtype: str
    room: int
    tokens_per_second: int
    cache_bytes_per_token: int
    measured_on: str


TASKS = {
    "noveltybench": TaskValues(
        "the 100 curated prompts of NoveltyBench",
        'dataset = "noveltybench"\nname = "NoveltyBench"\nsize = 100',
        max_new_tokens=512,
        mean_tokens=250,
        prompt_tokens=40,
    ),
    "wildchat": TaskValues(
        "the 1,000 WildChat prompts that NoveltyBench uses",
        'dataset = "wildchat"\nname = "WildChat"\nsize = 1000',
        max_new_tokens=512,
        mean_tokens=350,
        prompt_tokens=80,
    ),
    "narrative": TaskValues(
        "stories to be continued from title and sketch",
        "# The stories come from the repository PlusLabNLP/Narrative-Discourse: name their folder "
        'here.\ndataset = "narrative"\nname = "Narrative-Discourse"\n'
        'source = "narrative-discourse"\nsize = 439',
        max_new_tokens=2048,
        mean_tokens=900,
        prompt_tokens=250,
    ),
}

_H100 = "a guess for one H100 with 80 GB, not measured"
_CORES = "a guess for eight CPU cores, not measured"

PAIRS = {
    "llama-3-8b": PairValues("the paper's main pair", "bfloat16", 131072, 2000, 262144, _H100),
    "olmo-2-7b": PairValues("the paper's second pair", "bfloat16", 32768, 1500, 1048576, _H100),
    "smollm2-135m": PairValues(
        "a small pair for a first try on any machine", "auto", 131072, 200, 92160, _CORES
    ),
}


_ONE_TOKENIZER = """
[[methods]]
method = "logit-ensemble"
family = "Ensemble"
controls = [0.5, 0.8]

# The router that is asked of the first word too.

[[methods]]
method = "baco"
router = "p-punc-open"
family = "BaCo, open"
controls = [0.3, 0.1]
"""


class RealValues(NamedTuple):
    """What a fetched pair puts into the template of real evidence.

    Attributes:
        role: What it is.
        interpolation: Why its weights cannot be interpolated.
        time: How long the whole plan takes.
        one_tokenizer: Tables of the methods that need one tokenizer.
        tokens_per_second: Measured speed.
        mean_tokens: Measured length of a sample.
        measured_on: On what machine.
    """

    role: str
    interpolation: str
    time: str
    one_tokenizer: str
    tokens_per_second: int
    mean_tokens: int
    measured_on: str


_CORE = (
    "processor time of 2 prompts x 8 on one core of a busy AMD EPYC, for one method of each kind"
)

FETCHED_PAIRS = {
    "real": RealValues(
        "a true base and a true aligned model, of two families",
        "the two models have different shapes",
        "about 10 hours of one core at the speed below, the first look 75 minutes",
        "",
        40,
        60,
        _CORE,
    ),
    "real-plain": RealValues(
        "one aligned model twice, its base side asked in plain text; it has no base model",
        "both sides have the same weights",
        "about 10 hours of one core at the speed below, the first look 70 minutes",
        _ONE_TOKENIZER,
        48,
        60,
        _CORE,
    ),
}

FIRST_LOOK = 12
"""Prompts of the first look at a fetched pair."""

_PLANS = files("baco").joinpath("bench", "plans")


def shipped() -> list[str]:
    """Names of the plans that come with the package."""
    paper = [f"{task}-{pair}" for task in TASKS for pair in PAIRS]
    return sorted(["tiny", *paper, *_real_plans()])


def _real_plans() -> dict[str, tuple[str, str]]:
    """Names of the plans of fetched pairs: the pair, and the line that limits the prompts."""
    whole = {f"noveltybench-{pair}": (pair, "") for pair in FETCHED_PAIRS}
    limit = f"limit = {FIRST_LOOK}"
    return whole | {f"{name}-{FIRST_LOOK}": (pair, limit) for name, (pair, _) in whole.items()}


def plan_text(name: str) -> str:
    """Returns the text of a shipped plan.

    Raises:
        UnknownNameError: If there is none of this name; close names are suggested.
    """
    if name not in shipped():
        raise UnknownNameError("plan", name, shipped())
    if name == "tiny":
        return _PLANS.joinpath("tiny.toml").read_text(encoding="utf-8")
    if name in (real := _real_plans()):
        pair, limit = real[name]
        about = TASKS["noveltybench"].about
        template = Template(_PLANS.joinpath("real.template").read_text(encoding="utf-8"))
        return template.substitute(
            FETCHED_PAIRS[pair]._asdict(),
            pair=pair,
            limit=limit,
            about=about,
            About=about[0].upper() + about[1:],
        )
    kind, _, pair = name.partition("-")
    task, models = TASKS[kind], PAIRS[pair]
    template = Template(_PLANS.joinpath("paper.template").read_text(encoding="utf-8"))
    return template.substitute(
        {**task._asdict(), **models._asdict()},
        name=name,
        pair=pair,
        About=task.about[0].upper() + task.about[1:],
        max_rows=models.room // task.max_new_tokens,
    )
