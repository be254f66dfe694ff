"""The one way to make samples: all checks happen here, once, for every caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from baco.engine.drafts import PROMPT_LOOKUP
from baco.engine.session import Run, Seat, Turn
from baco.group import Sample
from baco.methods.base import Done, Setting, Task, Update
from baco.methods.distinct import check as check_meaning
from baco.methods.distinct import distinct
from baco.methods.filters import Filter, filtered
from baco.methods.needs import check
from baco.methods.run import new_session
from baco.models.sides import Models


def run(
    models: Models, tasks: Sequence[Task], setting: Setting, *, keep: Filter | None = None
) -> Iterator[Update]:
    """Makes samples: the one way in, for Python, the command line, the bench and the server.

    Args:
        models: Both sides of the pair.
        tasks: Which samples of which prompts; any subset of a group gives the same samples.
        setting: From `baco.methods.settings.make_setting`.
        keep: A moderation filter; the tokens of a sample wait until it has passed.

    Yields:
        Tokens as they may be shown, finished samples, and in the end the engines' account;
        in a session (see `Setting.seat`) also turns.

    Raises:
        InputError: If the pair cannot do what the method needs, or a prompt does not fit into
            a context window.
    """
    check(models, setting, tasks)
    check_meaning(models, setting, tasks)
    setting = with_draft(models, setting)

    def make(tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
        updates = setting.method.run(models, tasks, setting)
        return updates if keep is None else filtered(updates, keep, aside=setting.seat is not None)

    updates = distinct(models, tasks, setting, make) if setting.distinct else make(tasks, setting)
    if setting.seat is None:  # nobody to take turns with
        return (update for update in updates if not isinstance(update, Turn))
    return updates


def with_draft(models: Models, setting: Setting) -> Setting:
    """Loads the draft model that a setting names; each once, and as the pair was loaded.

    Args:
        models: Both sides of the pair.
        setting: A setting whose draft may be the name of a model.

    Returns:
        The setting with the model in its place.

    Raises:
        BacoError: If the model cannot be had, or is of no use to this pair.
    """
    name = setting.draft
    if not isinstance(name, str) or name == PROMPT_LOOKUP:
        return setting
    if name not in models.drafts:
        from baco.models.load import load_draft

        models.drafts[name] = load_draft(name, models.sides[1])
    return replace(setting, draft=models.drafts[name])


def seated(
    models: Models, tasks: Sequence[Task], setting: Setting, keep: Filter | None = None
) -> Callable[[Seat], Iterator[Update]]:
    """Returns what starts a run in a session; arguments as of `run`."""
    return lambda seat: run(models, tasks, replace(setting, seat=seat), keep=keep)


def make_together(
    models: Models, runs: Sequence[tuple[Sequence[Task], Setting]], max_rows: int
) -> list[list[Sample]]:
    """Makes the samples of some runs side by side, in a session of their own.

    Args:
        models: Both sides of the pair.
        runs: (tasks, setting) of each.
        max_rows: Rows decoded at the same time, for all of them.

    Returns:
        The samples of each run, in the order of its tasks.

    Raises:
        Exception: What a run failed with.
    """
    session = new_session(max_rows)
    made: dict[Run[Update], dict[int, Sample]] = {
        session.start(seated(models, tasks, setting)): {} for tasks, setting in runs
    }
    while not session.idle:
        for one, updates in session.cycle():
            if one.error:
                raise one.error
            made[one] |= {u.task: u.sample for u in updates if isinstance(u, Done)}
    return [[samples[number] for number in sorted(samples)] for samples in made.values()]
