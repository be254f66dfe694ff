"""One way to make samples: whoever asks, all checks happen here, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from baco.engine.drafts import PROMPT_LOOKUP
from baco.engine.session import Turn
from baco.methods.base import Setting, Task, Update
from baco.methods.filters import Filter, filtered
from baco.methods.needs import check
from baco.models.load import load_draft
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
    setting = with_draft(models, setting)
    updates = setting.method.run(models, tasks, setting)
    if setting.seat is None:  # nobody to take turns with
        updates = (update for update in updates if not isinstance(update, Turn))
    return updates if keep is None else filtered(updates, keep)


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
        models.drafts[name] = load_draft(name, models.sides[1])
    return replace(setting, draft=models.drafts[name])
