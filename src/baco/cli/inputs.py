"""Reads prompts from the command line, from files and from stdin."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baco.errors import InputError
from baco.prompts import Conversation, conversation_of


def read_prompts(
    arguments: Sequence[str], file: str | None, system: str | None
) -> list[Conversation]:
    """Collects all prompts, each once.

    Args:
        arguments: Prompts given as arguments.
        file: A file of prompts, ``-`` for stdin, or None.
        system: A system prompt for all that have none.

    Returns:
        The checked prompts in their order; repeated ones are left out, with a note on stderr.

    Raises:
        InputError: If there is none, one is malformed, or the file cannot be read.
    """
    prompts = [conversation_of(text, system) for text in arguments]
    if file is not None:
        prompts += _read_file(file, system)
    if not prompts:
        where = f"in {_name(file)}" if file else ""
        raise InputError(
            f"there is no prompt {where}".rstrip(),
            hint='give one as an argument, as in baco generate "Name a fruit."; or --input FILE',
        )
    unique = list(dict.fromkeys(prompts))
    if len(unique) < len(prompts):
        print(f"baco: {len(prompts) - len(unique)} repeated prompts are left out", file=sys.stderr)
    return unique


def _name(file: str) -> str:
    return "stdin" if file == "-" else file


def _read_file(file: str, system: str | None) -> list[Conversation]:
    """Reads a file: JSON Lines, or one prompt per line."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {file}: {error.strerror}", hint="check the path, or use - for stdin"
        ) from error
    lines: list[tuple[int, str]] = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            line = raw.decode()
        except UnicodeDecodeError:
            raise InputError(
                f"{_name(file)}, line {number}: not UTF-8 text", hint="save the file as UTF-8"
            ) from None
        if line.strip():
            lines.append((number, line.rstrip("\r")))
    is_json = file.endswith((".jsonl", ".ndjson", ".json")) or (
        bool(lines) and lines[0][1].lstrip().startswith("{")
    )
    prompts = []
    for number, line in lines:
        try:
            prompts.append(conversation_of(_json_prompt(line) if is_json else line, system))
        except InputError as error:
            raise InputError(
                f"{_name(file)}, line {number}: {error.message}", hint=error.hint
            ) from None
    return prompts


def _json_prompt(line: str) -> Any:
    """Reads one line of JSON: a string, or an object with ``prompt`` or ``messages``."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(
            f"not valid JSON: {error}", hint='each line must be like {"prompt": "Name a fruit."}'
        ) from None
    if isinstance(row, dict):
        keys = [key for key in ("prompt", "messages") if key in row]
        if len(keys) == 1:
            return row[keys[0]]
        what = "both prompt and messages" if keys else "neither prompt nor messages"
        raise InputError(f"the object has {what}", hint='write {"prompt": "..."}')
    if isinstance(row, str):
        return row
    raise InputError(
        f"{type(row).__name__} instead of an object", hint='write {"prompt": "Name a fruit."}'
    )
