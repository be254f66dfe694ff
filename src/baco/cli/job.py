"""What ``baco generate`` does once its options are checked."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import typer

from baco.cli.dryrun import show_plan
from baco.cli.output import Output, wanted
from baco.cli.progress import Bar
from baco.cli.render import Printer, note, stdout_console, style_for
from baco.cli.table import print_json
from baco.errors import InputError
from baco.group import Group, Sample
from baco.methods.base import Done, Setting, Task, tasks_for
from baco.methods.filters import Filter
from baco.methods.needs import check_tokenizers
from baco.methods.rollouts import not_whole
from baco.methods.settings import make_setting
from baco.models.engines import ENGINES, OURS, use_threads
from baco.models.remote import Uncertain
from baco.pair import Pair, load
from baco.prompts import Conversation, in_short, question_of


class Loaded(NamedTuple):
    """A pair and a setting that was checked against it."""

    pair: Pair
    setting: Setting


def load_pair(
    name: str,
    settings: Mapping[str, Any],
    *,
    whole: bool = False,
    **options: Any,
) -> Loaded:
    """Loads the pair, and resolves what of the settings depends on it.

    Args:
        name: As `baco.load`.
        settings: Arguments of `make_setting`.
        whole: Whether the law of every token is wanted, for which a pair needs one tokenizer.
        **options: Further arguments of `baco.load`.

    Raises:
        InputError: If the pair cannot do what a setting wants.
        PairError: If the pair cannot be had.
    """
    ours = ENGINES[options.get("engine", OURS)].in_process
    asked = make_setting(**{**settings, "diversity": None})

    def suits(one_tokenizer: bool) -> None:
        if whole and not one_tokenizer:
            raise not_whole(f"the pair {name!r}")
        check_tokenizers(name, one_tokenizer, asked)

    if ours:
        options["suits"] = suits
    pair = load(name, **options)
    bundled = pair.known is not None and pair.known.bundled
    if bundled and ours:
        use_threads(1)  # on models this small, threads only wait for each other
    return Loaded(pair, make_setting(**settings, calibration=pair.calibrated))


@dataclass
class GenerateJob:
    """Samples to make, and where they go.

    Attributes:
        pair: The pair.
        setting: How samples are made.
        prompts: The prompts.
        n: Samples per prompt.
        keep: A moderation filter, or None.
        output: The file to append to, or None.
        as_json: Whether rows go to stdout.
        show_sources: Whether sources are shown; None for the default.
    """

    pair: Pair
    setting: Setting
    prompts: list[Conversation]
    n: int
    keep: Filter | None
    output: Output | None
    as_json: bool
    show_sources: bool | None

    def run(self, further: Mapping[str, Any]) -> None:
        """Makes what is missing.

        Args:
            further: Settings of the command that the output's rows do not carry.
        """
        if self.output:
            self.output.check_settings(self._settings() | dict(further))
        missing = self._missing()
        whole = dict.fromkeys(self.prompts, self.n)
        if (
            self.setting.distinct
            and Counter(task.prompt for task in missing).items() - whole.items()
        ):
            raise InputError(
                "a group of distinct answers is made as a whole, and the file holds part of one",
                hint="name another file",
            )
        sink = _Sink(self, missing)
        try:
            with Bar(len(missing)) as bar:
                updates = self.pair.run(missing, self.setting, keep=self.keep)
                for number, update in enumerate(updates):
                    if number == 0:  # nothing is wrong with the prompts
                        with bar.aside():
                            self._say_where_the_world_ends()
                    if isinstance(update, Done):
                        bar.sample()
                        if ready := sink.take(update):
                            with bar.aside():
                                sink.show(ready)
                    else:
                        bar.token()
        except KeyboardInterrupt:
            sink.stop()
            raise typer.Exit(130) from None
        sink.finish(self.n * len(self.prompts))

    def show_plan(self) -> None:
        """Prints what `run` would make and need."""
        show_plan(self.pair, self._missing(), self.setting, as_json=self.as_json)

    def _missing(self) -> list[Task]:
        """The samples that are not in the output yet."""
        tasks = tasks_for(self.prompts, self.n)
        done = self.output.done if self.output else ()
        return [task for task in tasks if wanted(task, self.setting) not in done]

    def _settings(self) -> dict[str, Any]:
        """What decides samples and is not in their rows."""
        sampling, method = self.setting.sampling, self.setting.method
        settings = {
            "pair": self.pair.name,
            "revision": self.pair.revision,
            "temperature": sampling.warp.temperature,
            "top_p": sampling.warp.top_p,
            "top_k": sampling.warp.top_k,
            "min_p": sampling.warp.min_p,
            "penalties": sampling.warp.extras,
            "distinct": self.setting.distinct,
            "max_new_tokens": sampling.max_new_tokens,
            "stop": list(sampling.stop),
            "ban": list(sampling.ban),
            "restart_shorter_than": sampling.restart_shorter_than,
            "turn_rule": sampling.turn_rule,
        }
        if method.whole_group:
            settings["n"] = self.n
        settings.pop(method.alias or "", None)  # this stands in the rows: it is their control
        return settings

    def _say_where_the_world_ends(self) -> None:
        """Says once that the bundled pair knows only its own small world, if that matters."""
        if self.pair.known is None or not self.pair.known.bundled:
            return
        from baco.tiny.judge import known

        strange = [p for p in self.prompts if len(p) > 1 or not known(question_of(p))]
        if strange:
            note(
                f"the bundled pair {self.pair.name!r} only knows its own small world, and "
                f"{in_short(strange[0])!r} is outside it; for real answers name a real pair: "
                "--pair smollm2-135m (see baco pairs)"
            )


class _Sink:
    """Takes samples as they are finished; prints them in order."""

    def __init__(self, job: GenerateJob, tasks: list[Task]) -> None:
        self._job = job
        self._tasks = tasks
        self._waiting: dict[int, Sample] = {}
        self._next = 0
        self._group: list[Sample] = []
        self._groups = 0
        self._withheld = 0
        self._count = 0
        self._uncertain = Uncertain()
        console = stdout_console()
        self._printer = Printer(console, style_for(console, job.show_sources))

    def take(self, done: Done) -> list[tuple[Task, Sample]]:
        """Takes one sample, and returns those whose turn it is to be shown."""
        self._count += 1
        self._withheld += done.sample.finish_reason == "withheld"
        self._uncertain.add(done.sample.details)
        if self._job.output:
            self._job.output.write(done.sample)
            if not self._job.as_json:
                return []
        self._waiting[done.task] = done.sample
        ready = []
        while self._next in self._waiting:
            ready.append((self._tasks[self._next], self._waiting.pop(self._next)))
            self._next += 1
        return ready

    def show(self, ready: list[tuple[Task, Sample]]) -> None:
        """Prints samples, as rows or as groups."""
        for task, sample in ready:
            if self._job.as_json:
                print_json(sample.as_dict())
            else:
                self._print(task, sample)
        sys.stdout.flush()

    def _print(self, task: Task, sample: Sample) -> None:
        if not self._group:
            if self._groups:
                self._printer.between()
            self._printer.begin(task.prompt, self._job.n)
        self._group.append(sample)
        self._printer.sample(sample)
        if len(self._group) == self._job.n:
            group = Group(tuple(self._group))
            self._printer.end(group, self._judged(task, group))
            self._group = []
            self._groups += 1

    def _judged(self, task: Task, group: Group) -> str:
        """What the exact judge of the bundled pair's world says, where it knows the prompt."""
        known_pair = self._job.pair.known
        if known_pair is None or not known_pair.bundled or len(task.prompt) > 1:
            return ""
        from baco.tiny.judge import known, semantic_class, valid

        ask = question_of(task.prompt)
        if not known(ask):
            return ""
        right = [text for text in group.texts if valid(ask, text)]
        different = len({semantic_class(ask, text) for text in right})
        return f"{len(right)} of {len(group)} answers are right, {different} of them different"

    def stop(self) -> None:
        """Says what an interrupted run leaves."""
        if self._job.output:
            note(f"interrupted; {self._count} new samples are in {self._job.output.path}")
        else:
            note("interrupted")

    def finish(self, total: int) -> None:
        """Says what is uncertain, what was withheld, and what the file holds."""
        for line in self._uncertain.lines():
            note(line)
        if self._withheld:
            note(f"{self._withheld} of {self._count} samples were withheld by the filter")
        if self._job.output:
            there = total - len(self._tasks)
            already = f", {there} were there already" if there else ""
            note(f"{self._count} new samples in {self._job.output.path}{already}")
