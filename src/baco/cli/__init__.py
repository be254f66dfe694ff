"""The ``baco`` command: one thin module per command, imported only when it is needed.

A command lives in ``baco/cli/NAME.py`` and offers a Typer app called ``app``.
"""

from __future__ import annotations

import errno
import io
import logging
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from baco import __version__
from baco.errors import BacoError, UnknownNameError, first_line

COMMANDS = (
    "generate",
    "rollouts",
    "extract-adapter",
    "pairs",
    "router",
    "routers",
    "methods",
    "metrics",
    "tradeoff",
    "calibrate",
    "bench",
    "serve",
    "study",
)
"""Every command in the order of ``baco --help``; those that this installation has are offered."""

# Typer brings its own click since 0.29 and uses the package before: this is either's base class.
_UsageError: Any = typer.BadParameter.__mro__[2]


def _module(name: str) -> str:
    return f"baco.cli.{name.replace('-', '_')}"


class LazyGroup(TyperGroup):
    """Finds commands by the names of their modules."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Lists the commands."""
        return [name for name in COMMANDS if find_spec(_module(name))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Imports a command.

        Raises:
            UnknownNameError: If there is no such command.
        """
        names = self.list_commands(ctx)
        if cmd_name not in names:
            raise UnknownNameError("command", cmd_name, names)
        command = typer.main.get_command(import_module(_module(cmd_name)).app)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="baco",
    cls=LazyGroup,
    help="Base-aligned model collaboration: many different answers that are all good.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"baco {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where an error came from; before the command.")
    ] = False,
) -> None:
    """Base-aligned model collaboration: many different answers that are all good."""


class _LogLines(logging.Handler):
    """Says what the library logs as the command says everything: one line on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one record."""
        print(f"baco: {record.getMessage()}", file=sys.stderr)


def run(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: The arguments; by default those of the process.

    Returns:
        The exit code: 0, or 2 for what the user can mend (one line on stderr says how), or 130
        when interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an old terminal is no reason to crash
    logger = logging.getLogger("baco")
    if not any(isinstance(handler, _LogLines) for handler in logger.handlers):
        logger.addHandler(_LogLines())
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = arguments[:1] == ["--debug"]
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="baco", standalone_mode=False)
        sys.stdout.flush()
    except BacoError as error:
        if debug:
            traceback.print_exc()
        return _complain(str(error))
    except _UsageError as error:
        message = error.format_message().rstrip(".")
        if not message or type(error).__name__ == "NoArgsIsHelpError":
            return 2  # the help was shown instead
        where = error.ctx.command_path if error.ctx else "baco"
        return _complain(f"{message} (see {where} --help)")
    except KeyboardInterrupt:
        return 130
    except typer.Abort:  # a question that nobody was there to answer
        print(file=sys.stderr)
        return _complain("nothing was done: the question was not answered")
    except BrokenPipeError:
        _mute()
        return 141
    except OSError as error:
        _mute()
        what = error.filename or "cannot write the output"
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "make room and run it again" if full else "baco --debug ... shows where"
        if debug:
            traceback.print_exc()
        return _complain(f"{what}: {error.strerror or first_line(error)} ({hint})")
    except UnicodeEncodeError as error:  # of a file's name, or of a terminal's letters
        text = ascii(error.object[error.start : error.end])
        return _complain(
            f"{text} cannot be written as {error.encoding} (rename the file, or set PYTHONUTF8=1)"
        )
    except Exception as error:
        if debug:
            traceback.print_exc()
        said = first_line(error)
        _complain(f"unforeseen: {type(error).__name__}: {said} (baco --debug ... shows where)")
        return 1
    return code if isinstance(code, int) else 0


def _complain(line: str) -> int:
    print(f"baco: {line}", file=sys.stderr)
    return 2


def _mute() -> None:
    """Keeps Python from complaining once more when it flushes stdout at the end."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Runs the command line and leaves with its exit code."""
    sys.exit(run())
