"""A plan: everything that decides what a bench run makes and measures, as one TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from baco.bench.datasets import Source
from baco.bench.shipped import plan_text
from baco.errors import BacoError, InputError, UnknownNameError

if TYPE_CHECKING:
    from baco.methods.base import Setting

Control = float | str | None
"""A method's control: a number, a schedule as text, or None for its default."""


class PlanTable(BaseModel):
    """A table of the file: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetPlan(PlanTable):
    """A dataset, see `baco.bench.datasets`.

    Attributes:
        dataset: Name of its loader.
        name: What reports call it; by default the loader's name.
        source: A file, a folder or a Hub id, where the loader needs one.
        limit: At most so many prompts, evenly over the dataset; None for all.
        size: Prompts that it is expected to have, so that ``--dry-run`` need not fetch it.
        options: The loader's own options.
    """

    dataset: str
    name: str = ""
    source: str = ""
    limit: int | None = Field(default=None, ge=1)
    size: int | None = Field(default=None, ge=1)
    options: dict[str, Any] = {}

    @property
    def title(self) -> str:
        """What reports call it."""
        return self.name or self.dataset

    @property
    def where(self) -> Source:
        """Where it is read."""
        return Source(self.dataset, self.title, self.source, self.options)


class SamplingPlan(PlanTable):
    """How samples are drawn, see `baco.methods.settings.make_setting`.

    What is None is what suits the method: as a rule temperature 1, top-p 0.9 and no min-p.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int = 0
    min_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    max_new_tokens: int = 512
    stop: list[str] = []
    ban: list[str] | None = None
    restart_shorter_than: int = 0
    turn_rule: bool = True

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves penalties out that are not given: cells made before there were any stay known."""
        values: dict[str, Any] = handler(self)
        usual = ("temperature", "top_p", "min_p")
        return {k: v for k, v in values.items() if v is not None or k in usual}


class MethodPlan(PlanTable):
    """One curve: a method, its router if it has one, and a grid of controls.

    Attributes:
        method: Name of the method.
        router: Name of the router; only for methods that have one.
        controls: Values of the control; empty for one setting with the method's default.
        name: What reports call the curve; by default the method, with the router in `baco`.
        family: Curves among which a 'best of' is chosen; by default the curve's own name.
        pairs: Pairs it runs on; by default those of the plan.
        sampling: What differs from the plan's sampling.
    """

    method: str
    router: str | None = None
    controls: list[float | str] = []
    name: str = ""
    family: str = ""
    pairs: list[str] | None = None
    sampling: dict[str, Any] = {}

    @property
    def curve(self) -> str:
        """What reports call the curve."""
        return self.name or (f"{self.method} {self.router}" if self.router else self.method)


class MetricsPlan(PlanTable):
    """The spaces (every diversity metric against every quality metric) and the models they need.

    Attributes:
        diversity: Diversity metrics by name, see `baco metrics list`.
        quality: Quality metrics by name.
        extra: Metrics that are scored, but make no space.
        aligned: Aligned model for perplexity and likelihoods: a folder, a Hub id or a known pair;
            by default the pair's own, or the first pair's for pairs that only some methods use.
        models: Other models than the default ones, by role.
        device: As `baco.metrics.score`.
        dtype: As `baco.metrics.score`.
        batch_size: Texts in one forward pass.
        engine: What computes likelihoods, as of `baco.metrics.score`.
        judge_url: OpenAI-compatible address for metrics that need a judge.
        judge_model: The judge's name there; without an address, an aligned model that runs here.
        judge_key_env: Environment variable that holds the judge's key.
    """

    diversity: list[str] = Field(min_length=1)
    quality: list[str] = Field(min_length=1)
    extra: list[str] = []
    aligned: str = ""
    models: dict[str, str] = {}
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = Field(default=16, ge=1)
    engine: str = "baco"
    judge_url: str = ""
    judge_model: str = ""
    judge_key_env: str = "OPENAI_API_KEY"

    @property
    def names(self) -> list[str]:
        """All metrics, each once."""
        return list(dict.fromkeys([*self.diversity, *self.quality, *self.extra]))


class RunPlan(PlanTable):
    """Where and how models run: what changes speed only, but for engine and precision.

    Attributes:
        engine: As `baco.load`: ``baco`` or ``vllm``.
        device: As `baco.Pair`.
        dtype: As `baco.Pair`.
        engine_options: Options of vLLM.
        max_rows: Samples decoded at a time.
        lookahead: How far partners guess ahead.
        tokens_per_second: Expected speed, for the estimate of ``--dry-run``.
        mean_tokens: Expected length of a sample, for the same.
        prompt_tokens: Expected length of a prompt, for the same.
        cache_bytes_per_token: What the caches of both models need for a token of a row.
        measured_on: On what machine these were measured, or that they are a guess.
    """

    device: str = "auto"
    dtype: str = "auto"
    engine: str = "baco"
    engine_options: dict[str, Any] = {}
    max_rows: int = Field(default=256, ge=1)
    lookahead: int | Literal["auto", "off"] = "auto"
    tokens_per_second: float | None = Field(default=None, gt=0)
    mean_tokens: float | None = Field(default=None, gt=0)
    prompt_tokens: int = Field(default=64, ge=0)
    cache_bytes_per_token: float = Field(default=0.0, ge=0)
    measured_on: str = ""


class ReportPlan(PlanTable):
    """What the report compares.

    Attributes:
        base: The curve and control that mark the base end of every axis, as ``CURVE@CONTROL``.
        aligned: The same for the aligned end.
        best_of: Families of which the best curve is chosen on one half of the prompts and
            reported on the other.
    """

    base: str = "base@1"
    aligned: str = "aligned@1"
    best_of: list[str] = []


class Plan(PlanTable):
    """A whole plan.

    Attributes:
        name: Its name; by default the file's.
        about: One line about it.
        pairs: The pairs, by name or as ``BASE,ALIGNED``.
        datasets: The datasets.
        methods: The curves.
        metrics: The spaces.
        n: Samples per prompt.
        seed: Decides all noise.
        sampling: How samples are drawn.
        run: How models run.
        report: What the report compares.
    """

    name: str = ""
    about: str = ""
    pairs: list[str] = Field(min_length=1)
    datasets: list[DatasetPlan] = Field(min_length=1)
    methods: list[MethodPlan] = Field(min_length=1)
    metrics: MetricsPlan
    n: int = Field(default=10, ge=1)
    seed: int = 0
    sampling: SamplingPlan = SamplingPlan()
    run: RunPlan = RunPlan()
    report: ReportPlan = ReportPlan()

    @property
    def all_pairs(self) -> list[str]:
        """The plan's pairs, then those that only some curves use."""
        further = (pair for entry in self.methods for pair in entry.pairs or ())
        return list(dict.fromkeys([*self.pairs, *further]))

    def sampling_of(self, entry: MethodPlan) -> SamplingPlan:
        """How samples of one curve are drawn."""
        return SamplingPlan(**{**self.sampling.model_dump(), **entry.sampling})

    def pairs_of(self, entry: MethodPlan) -> Sequence[str]:
        """The pairs that one curve runs on."""
        return self.pairs if entry.pairs is None else entry.pairs

    def aligned_of(self, pair: str) -> str:
        """The model whose likelihoods score a pair's samples: a folder, Hub id or known pair.

        Base weights, such as ``~0.3`` after a pair's name, leave its aligned side as it is.
        """
        from baco.models.known import split_weights

        if self.metrics.aligned:
            return self.metrics.aligned
        name, _ = split_weights(pair if pair in self.pairs else self.pairs[0])
        return name.partition(",")[2].strip() or name


TABLES: dict[str, type[PlanTable]] = {
    "datasets": DatasetPlan,
    "methods": MethodPlan,
    "metrics": MetricsPlan,
    "sampling": SamplingPlan,
    "run": RunPlan,
    "report": ReportPlan,
}


def read_plan(source: str) -> Plan:
    """Reads and checks a plan.

    Args:
        source: A TOML file, or the name of a shipped plan.

    Raises:
        UnknownNameError: If it is neither, or a key, method, router or metric is unknown.
        InputError: If it is no TOML, or a value is wrong; the message says where.
    """
    path = Path(source)
    if path.suffix != ".toml" and not path.is_file():
        return parse_plan(plan_text(source), source, source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(
            f"cannot read the plan {source}: {reason}", hint="baco bench init writes one"
        ) from None
    return parse_plan(text, path.stem, source)


def parse_plan(text: str, name: str, where: str) -> Plan:
    """Reads and checks the text of a plan.

    Args:
        text: TOML.
        name: The plan's name, where the text gives none.
        where: Where it stands, for messages.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where} is not TOML: {error}", hint="mend that line") from None
    values.setdefault("name", name)
    try:
        plan = Plan(**values)
    except ValidationError as error:
        raise _mistake(error, where) from None
    check(plan, where)
    return plan


def _mistake(error: ValidationError, where: str) -> InputError:
    """Turns the first thing that pydantic found into a message for people."""
    found = error.errors()[0]
    place = found["loc"]
    spot = "".join(f"[{p + 1}]" if isinstance(p, int) else f".{p}" for p in place).lstrip(".")
    if found["type"] == "extra_forbidden":
        table = TABLES.get(str(place[0]), Plan) if len(place) > 1 else Plan
        mistake = UnknownNameError("key", str(place[-1]), table.model_fields)
        return InputError(f"{where}: {mistake.message} at {spot}", hint=mistake.hint)
    if found["type"] == "missing":
        return InputError(f"{where}: {spot} is missing", hint="see baco bench init")
    words = found["msg"][:1].lower() + found["msg"][1:]
    return InputError(f"{where}: {spot}: {words}", hint=f"it is {found['input']!r}")


def controls_of(entry: MethodPlan) -> Sequence[Control]:
    """The controls of a curve; None alone where the plan gives none."""
    return entry.controls or [None]


def make_cell_setting(plan: Plan, entry: MethodPlan, control: Control) -> Setting:
    """Makes the setting of one control of a curve.

    Raises:
        InputError: If the method or router is unknown, or a value out of range.
    """
    sampling = plan.sampling_of(entry).model_dump()
    return setting_of(plan, entry.method, entry.router, control, sampling, plan.seed)


def setting_of(
    plan: Plan,
    method: str,
    router: str | None,
    control: Control,
    sampling: Mapping[str, Any],
    seed: int,
) -> Setting:
    """Makes the setting of one control of one method; how models run comes from the plan."""
    from baco.methods import METHODS
    from baco.methods.settings import make_setting

    values: dict[str, Any] = {"method": method, "router": router, "control": control, **sampling}
    alias = METHODS[method].alias
    if control is not None and alias and alias in sampling:
        values[alias] = None  # the plan's sampling speaks of all other methods
    return make_setting(
        **values,
        seed=seed,
        n=plan.n,
        lookahead=plan.run.lookahead,
        max_rows=plan.run.max_rows,
    )


def check(plan: Plan, where: str) -> None:
    """Checks all that a plan names: methods, routers, controls, metrics, datasets, curves.

    Raises:
        InputError: If something is wrong; the message says where.
    """
    from baco.bench.datasets import DATASETS
    from baco.metrics.models import DEFAULTS
    from baco.metrics.spec import resolve
    from baco.models.engines import ENGINES, OURS
    from baco.models.known import known_pair

    def at(spot: str, error: BacoError) -> InputError:
        return InputError(f"{where}: {spot}: {error.message}", hint=error.hint)

    curves: dict[tuple[str, str], int] = {}
    for number, entry in enumerate(plan.methods, 1):
        spot = f"methods[{number}]"
        for name in plan.pairs_of(entry):
            if "," not in name:
                try:
                    known_pair(name)
                except InputError as error:
                    raise at(f"{spot}: pairs" if entry.pairs else "pairs", error) from None
            if (entry.curve, name) in curves:
                raise InputError(
                    f"{where}: {spot}: the curve {entry.curve!r} is there already, as "
                    f"methods[{curves[entry.curve, name]}]",
                    hint="give one of the two another name, or put all controls into one",
                )
            curves[entry.curve, name] = number
        unknown = [k for k in entry.sampling if k not in SamplingPlan.model_fields]
        if unknown:
            mistake = UnknownNameError("key", unknown[0], SamplingPlan.model_fields)
            raise at(f"{spot}.sampling", mistake)
        try:
            plan.sampling_of(entry)
        except ValidationError as error:
            raise _mistake(error, f"{where}: {spot}.sampling") from None
        seen: list[Control] = []
        for control in controls_of(entry):
            shown = "" if control is None else f" at control {control}"
            if control in seen:
                raise InputError(
                    f"{where}: {spot} ({entry.curve}): the control {control} is there twice",
                    hint="leave one out",
                )
            seen.append(control)
            try:
                make_cell_setting(plan, entry, control)
            except BacoError as error:
                raise at(f"{spot} ({entry.curve}){shown}", error) from None
    for kind, names in (("diversity", plan.metrics.diversity), ("quality", plan.metrics.quality)):
        for name in names:
            try:
                metric = resolve(name)
            except InputError as error:
                raise at(f"metrics.{kind}", error) from None
            if metric.is_diversity != (kind == "diversity"):
                other = "quality" if kind == "diversity" else "diversity"
                raise InputError(
                    f"{where}: metrics.{kind}: {name} is a {metric.kind} metric",
                    hint=f"move it to metrics.{other}",
                )
    for spot, engine in (("run", plan.run.engine), ("metrics", plan.metrics.engine)):
        if engine != OURS and engine not in ENGINES:
            raise at(f"{spot}.engine", UnknownNameError("engine", engine, ENGINES))
    for name in plan.metrics.extra:
        try:
            resolve(name)
        except InputError as error:
            raise at("metrics.extra", error) from None
    for role in plan.metrics.models:
        if role not in DEFAULTS:
            raise at("metrics.models", UnknownNameError("role", role, DEFAULTS))
    titles = [dataset.title for dataset in plan.datasets]
    for dataset in plan.datasets:
        if dataset.dataset not in DATASETS:
            raise at("datasets", UnknownNameError("dataset", dataset.dataset, DATASETS))
        if titles.count(dataset.title) > 1:
            raise InputError(
                f"{where}: two datasets are called {dataset.title!r}",
                hint="give one of them another name",
            )
    families = {entry.family for entry in plan.methods if entry.family}
    for family in plan.report.best_of:
        if family not in families:
            raise at("report.best_of", UnknownNameError("family", family, families))
