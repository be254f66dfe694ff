"""Files of prompts and of answers, in the shapes that people have them: one reader for all.

JSON Lines, JSON arrays, Parquet, CSV and TSV with a header, plain text; rows as BaCo writes them,
and as Alpaca, ShareGPT and OpenAI's batch and fine-tuning files have them.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from baco.errors import InputError, missing_extra

JSON = (".jsonl", ".ndjson", ".json")
TABLES = {".csv": ",", ".tsv": "\t"}

_HINT = 'a row is an object like {"prompt": "Name a fruit."}'

_SPEAKERS = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant"}
"""ShareGPT's names of roles that are not ours."""

_SPACE = re.compile(r"[ \t\n\r]*")
_OBJECT = re.compile(r'\s*\{\s*"[^"]*"\s*:')


class FileRow(NamedTuple):
    """One row of a file.

    Attributes:
        where: Where it stands, for messages, such as ``prompts.jsonl, line 3``.
        value: The row: of a JSON file anything, of a table an object, of plain text the line.
    """

    where: str
    value: Any


def read_rows(file: str | Path, *, plain: bool = False) -> list[FileRow]:
    """Reads a file; its name's ending says how, and its content where that says nothing.

    Args:
        file: The file; ``-`` for stdin.
        plain: Whether a file that is not called JSON or a table may be plain text, one row a line;
            it is JSON Lines if its first line is an object. Otherwise it must be JSON.

    Returns:
        The rows that are not blank, in order.

    Raises:
        InputError: If the file cannot be read, or a row is malformed.
    """
    name = "stdin" if str(file) == "-" else str(file)
    suffix = "" if str(file) == "-" else Path(file).suffix.lower()
    if name in (".", ""):
        raise InputError("no file is named", hint="give the path of a file")
    try:
        stdin = name == "stdin"
        data = sys.stdin.buffer.read() if stdin else Path(file).expanduser().read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {name}: {error.strerror or error}",
            hint="check the path, or use - for stdin",
        ) from error
    if suffix == ".parquet" or data.startswith(b"PAR1"):
        return _parquet(data, name)
    text = _decode(data, name)
    if suffix in TABLES:
        return list(_table(text, name, TABLES[suffix]))
    if plain and suffix not in JSON and not _is_json(text, name, suffix):
        lines = enumerate(text.split("\n"), 1)
        return [FileRow(f"{name}, line {n}", line) for n, line in lines if line.strip()]
    return list(_json_rows(text, name))


def read_json(file: Path) -> Any:
    """Reads a file that is one JSON value.

    Raises:
        InputError: If it cannot be read, or is not JSON.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    return parse_json(_decode(data, str(file)), str(file))


def parse_json(text: str, where: str) -> Any:
    """Parses JSON that a user gave; what a parser would take in silence or choke on is refused.

    Args:
        text: The JSON.
        where: Where it stands, for messages.

    Raises:
        InputError: If it is not JSON, has a key twice, half of a surrogate pair, a number too long
            to be one, or is nested too deeply.
    """
    value, end = _value(text, 0, where)
    if (rest := _after_space(text, end)) < len(text):
        raise InputError(
            f"{where}: not valid JSON: extra data at column {rest - text.rfind(chr(10), 0, rest)}",
            hint=_HINT,
        )
    return value


def _decode(data: bytes, name: str) -> str:
    """Text of a file, with line feeds at the ends of its lines."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InputError(
            f"cannot read {name}: UTF-16 and not UTF-8 text", hint="save the file as UTF-8"
        )
    if b"\0" in data or data[:2] == b"\x1f\x8b":
        raise InputError(
            f"cannot read {name}: binary and not UTF-8 text",
            hint="give JSON Lines, JSON, Parquet (.parquet), CSV (.csv) or text; unpack archives",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"cannot read {name}, line {line}: not UTF-8 text", hint="save the file as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


# -- JSON ---------------------------------------------------------------------------------------


def _is_json(text: str, name: str, suffix: str) -> bool:
    """Whether a file that may be plain text is JSON: an array of objects, or lines of them."""
    start = _after_space(text, 0)
    if text[start : start + 1] == "[":
        try:
            first = next(_array(text, start, name), None)
        except InputError:
            return False
        return first is not None and isinstance(first.value, dict)
    line = text[start:].partition("\n")[0]
    if not line.startswith("{"):
        return False
    try:
        return isinstance(parse_json(line, name), dict)
    except InputError:
        # Of a .txt a line is a line; elsewhere what begins like an object was meant to be one.
        return suffix != ".txt" and bool(_OBJECT.match(line))


def _json_rows(text: str, name: str) -> Iterator[FileRow]:
    """Rows of JSON Lines, of an array, or of objects one after another."""
    start = _after_space(text, 0)
    if text[start : start + 1] == "[":
        yield from _array(text, start, name)
        return
    try:
        parse_json(text[start:].partition("\n")[0], name)
    except InputError:
        # Objects over several lines, or a wrong first line, which is then named below.
        try:
            yield from list(_stream(text, start, name))
            return
        except InputError:
            pass
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{name}, line {number}"
            yield FileRow(where, parse_json(line, where))


def _after_space(text: str, place: int) -> int:
    """The next place that is not white space."""
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _array(text: str, start: int, name: str) -> Iterator[FileRow]:
    """Items of an array, each with its own line."""
    place, line, seen = start + 1, text.count("\n", 0, start) + 1, start
    while True:
        place = _after_space(text, place)
        line, seen = line + text.count("\n", seen, place), place
        where = f"{name}, line {line}"
        if text[place : place + 1] == "]":
            break
        value, place = _value(text, place, where, name)
        yield FileRow(where, value)
        place = _after_space(text, place)
        line, seen = line + text.count("\n", seen, place), place
        mark = text[place : place + 1]
        if mark == "]":
            break
        if mark != ",":
            raise InputError(
                f"{name}, line {line}: not valid JSON: a comma or ] should follow the item",
                hint="repair the array, or write one object on each line",
            )
        place += 1
    if text[place + 1 :].strip():
        raise InputError(f"{name}, line {line}: not valid JSON: text after the array's end")


def _stream(text: str, start: int, name: str) -> Iterator[FileRow]:
    """Objects one after another, each over several lines."""
    place, line, seen = start, 1, 0
    while place < len(text):
        line, seen = line + text.count("\n", seen, place), place
        where = f"{name}, line {line}"
        value, place = _value(text, place, where, name)
        yield FileRow(where, value)
        place = _after_space(text, place)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes an object of JSON, as an `object_pairs_hook`.

    Raises:
        InputError: If a key stands in it twice; json keeps the last without a word.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(f"the key {twice!r} twice in one object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=unique_keys)


def _value(text: str, place: int, where: str, file: str = "") -> tuple[Any, int]:
    """One JSON value from a place on, and where it ends; of a whole file the line is named."""
    try:
        value, end = _DECODER.raw_decode(text, _after_space(text, place))
        if "\\u" in text[place:end]:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        where = f"{file}, line {error.lineno}" if file else where
        raise InputError(
            f"{where}: not valid JSON: {error.msg} at column {error.colno}", hint=_HINT
        ) from None
    except RecursionError:
        raise InputError(f"{where}: not valid JSON: nested too deeply", hint=_HINT) from None
    except InputError as error:
        raise InputError(f"{where}: {error.message}", hint="leave one of them out") from None
    except UnicodeEncodeError:
        raise InputError(
            f"{where}: not valid Unicode (half of a surrogate pair)", hint="repair the text"
        ) from None
    except ValueError:
        raise InputError(
            f"{where}: a number of more than {sys.get_int_max_str_digits()} digits",
            hint="write it as a text, in quotes",
        ) from None
    return value, end


# -- tables -------------------------------------------------------------------------------------


def _table(text: str, name: str, delimiter: str) -> Iterator[FileRow]:
    """Rows of CSV or TSV, by the names of the first line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    try:
        while True:
            first = reader.line_num + 1
            cells = next(reader, None)
            where = f"{name}, line {first}"
            if cells is None:
                return
            if not any(cell.strip() for cell in cells):
                continue
            if not names:
                names = [cell.strip() for cell in cells]
                if len(set(names)) < len(names):
                    raise InputError(f"{where}: two columns have the same name")
            elif len(cells) != len(names):
                raise InputError(
                    f"{where}: {len(cells)} cells under {len(names)} columns",
                    hint="the first line names the columns; cells with commas stand in quotes",
                )
            else:
                yield FileRow(where, dict(zip(names, cells, strict=True)))
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: not valid CSV: {error}") from None


def _parquet(data: bytes, name: str) -> list[FileRow]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "bench") from error
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(data))
    except (OSError, pyarrow.ArrowInvalid) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot read {name} as Parquet: {reason}") from error
    return [FileRow(f"{name}, row {i}", row) for i, row in enumerate(table.to_pylist(), 1)]


# -- rows ---------------------------------------------------------------------------------------


def as_object(row: FileRow) -> dict[str, Any]:
    """Takes a row that must be an object.

    Raises:
        InputError: If it is none.
    """
    if not isinstance(row.value, dict):
        raise InputError(
            f"{row.where}: {type(row.value).__name__} instead of an object",
            hint='write {"prompt": "Name a fruit."}',
        )
    return row.value


PROMPT_FIELDS = ("prompt", "messages", "body", "conversations", "instruction")
"""Fields of the shapes of rows that hold a prompt."""


def prompt_of(value: Any) -> Any:
    """Finds the prompt of a row, for `baco.prompts.conversation_of` to check.

    Args:
        value: A text, or an object with ``prompt`` or ``messages``; a request of an OpenAI batch
            (``body``); ShareGPT's ``conversations``, of which an answer at the end is left out;
            Alpaca's ``instruction`` and ``input``.

    Returns:
        A text, or a list of messages.

    Raises:
        InputError: If there is none, or two.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise InputError(
            f"{type(value).__name__} instead of an object", hint='write {"prompt": "Name a fruit."}'
        )
    if isinstance(body := value.get("body"), dict) and not {"prompt", "messages"} & value.keys():
        return prompt_of(body)
    keys = [key for key in ("prompt", "messages", "conversations") if key in value]
    if keys == ["conversations"]:
        return without_answer(messages_of(value["conversations"]))
    if len(keys) == 1:
        return messages_of(value[keys[0]])
    if keys:
        raise InputError(f"the object has both {keys[0]} and {keys[1]}", hint="leave one out")
    if isinstance(task := value.get("instruction"), str):
        given = value.get("input")
        return f"{task}\n\n{given}" if isinstance(given, str) and given.strip() else task
    names = ", ".join(map(str, list(value)[:8])) or "nothing"
    raise InputError(
        "the object has neither prompt nor messages",
        hint=f"it has {names}; name the prompt's field or column 'prompt'",
    )


def messages_of(prompt: Any) -> Any:
    """Brings the messages of a conversation into our form; anything else stays as it is.

    Roles of ShareGPT become ours, a list of text parts their text, and fields without a value go.
    """
    if not isinstance(prompt, list) or not all(isinstance(entry, dict) for entry in prompt):
        return prompt
    return [_message(entry) for entry in prompt]


def _message(entry: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in entry.items() if value is not None}
    if set(kept) >= {"from", "value"} and "role" not in kept:
        speaker = kept.pop("from")
        kept = {"role": _SPEAKERS.get(speaker, speaker), "content": kept.pop("value"), **kept}
    parts = kept.get("content")
    if isinstance(parts, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in parts
    ):
        kept["content"] = "".join(part["text"] for part in parts)
    return kept


def without_answer(messages: Any) -> Any:
    """A conversation up to its last question, where an answer follows it."""
    ends = isinstance(messages, list) and len(messages) > 1 and isinstance(messages[-1], dict)
    return messages[:-1] if ends and messages[-1].get("role") == "assistant" else messages


def answers_of(row: Mapping[str, Any]) -> Any:
    """Finds the answers that a row brings along.

    Args:
        row: A row with ``generations`` or ``responses``; a completion of OpenAI's API
            (``choices``), also of a batch (``response``); an example of Alpaca (``output``), of
            ShareGPT or of a fine-tuning file (the answer at the end).

    Returns:
        The answers, unchecked; None if there is none.
    """
    for name in ("generations", "responses"):
        if name in row:
            return row[name]
    if isinstance(reply := row.get("response"), dict) and isinstance(reply.get("body"), dict):
        row = reply["body"]
    if isinstance(choices := row.get("choices"), list):
        return [_content(choice) for choice in choices]
    if "instruction" in row and "output" in row:
        return [row["output"]]
    for name in ("conversations", "messages"):
        talk = messages_of(row.get(name))
        if without_answer(talk) is not talk:
            return [talk[-1].get("content")]
    return None


def _content(choice: Any) -> Any:
    """Text of one choice, of a chat or of a completion."""
    if not isinstance(choice, dict):
        return choice
    message = choice.get("message")
    return message.get("content") if isinstance(message, dict) else choice.get("text")
