"""``baco serve``: an OpenAI-compatible server with a playground."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer

from baco.cli.engines import ENGINE_HELP, OPTION_HELP, engine_options
from baco.cli.options import MODELS, Device, Dtype, LookaheadText, read_lookahead
from baco.errors import InputError, missing_extra

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_LIMITS = "Limits"
_DOORS = "Who may come in"


@app.command()
def serve(
    pair: Annotated[
        list[str] | None,
        typer.Option(
            help="A pair to serve, or NAME=PAIR to serve it under another name; may be given "
            "several times.",
            show_default="tiny",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 opens it to the network.")
    ] = "127.0.0.1",
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="BACO_API_KEY",
            help="Requests must bear this key; best given in the environment, as other users of "
            "the machine see command lines.",
            show_default=False,
            rich_help_panel=_DOORS,
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="A file of keys, one a line, each of a client of its own.",
            show_default=False,
            rich_help_panel=_DOORS,
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name that clients may call the server by, besides --host, localhost and "
            "addresses; may be given several times.",
            show_default="none",
            rich_help_panel=_DOORS,
        ),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            help="A web origin that browsers may call from; may be given several times.",
            show_default="none",
            rich_help_panel=_DOORS,
        ),
    ] = None,
    filter_: Annotated[
        str | None,
        typer.Option(
            "--filter",
            help="module:function(prompt, text) that every answer passes before anything of it is "
            "shown: it returns whether that may be, or a text to show instead.",
            show_default="none",
            rich_help_panel=_DOORS,
        ),
    ] = None,
    max_rows: Annotated[
        int,
        typer.Option(min=1, help="Answers written at the same time.", rich_help_panel=_LIMITS),
    ] = 64,
    max_waiting: Annotated[
        int,
        typer.Option(min=0, help="Answers that may wait; then 429.", rich_help_panel=_LIMITS),
    ] = 512,
    max_n: Annotated[
        int, typer.Option(min=1, help="Answers per request.", rich_help_panel=_LIMITS)
    ] = 64,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens per answer.", rich_help_panel=_LIMITS)
    ] = 4096,
    timeout: Annotated[
        float,
        typer.Option(help="Seconds after which a request is given up.", rich_help_panel=_LIMITS),
    ] = 600,
    max_connections: Annotated[
        int,
        typer.Option(
            min=1,
            help="Open connections; fewer where the limit of open files is low.",
            rich_help_panel=_LIMITS,
        ),
    ] = 512,
    lenient: Annotated[
        bool,
        typer.Option(
            "--lenient",
            help="Answer requests with fields that cannot be honoured, with a warning, instead of "
            "refusing them.",
        ),
    ] = False,
    grace: Annotated[
        int,
        typer.Option(
            min=0, help="Seconds that answers get to finish on stop.", rich_help_panel=_LIMITS
        ),
    ] = 20,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP, rich_help_panel=MODELS)] = "baco",
    engine_option: Annotated[
        list[str] | None,
        typer.Option(help=OPTION_HELP, show_default=False, rich_help_panel=MODELS),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    lookahead: LookaheadText = "auto",
) -> None:
    """Serves pairs over HTTP: the API under /v1, the playground at /.

    Nothing of what is asked or answered is written to the log.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise missing_extra("uvicorn", "serve") from error
    import baco
    from baco.cli.progress import waiting
    from baco.engine.loop import cannot_look_ahead
    from baco.methods.filters import load_filter
    from baco.models.engines import ENGINES
    from baco.serve import Settings, create_app
    from baco.serve.connections import bounded, most_connections

    if api_key_file is not None:
        if api_key is not None:
            raise InputError(
                "--api-key (or BACO_API_KEY) and --api-key-file both give keys",
                hint="leave out one of them",
            )
        api_key = _read_keys(api_key_file)
    settings = Settings(
        api_key=api_key,
        cors_origins=tuple(cors or ()),
        allowed_hosts=(host, *(allowed_host or ())),
        lenient=lenient,
        max_rows=max_rows,
        max_waiting=max_waiting,
        max_n=max_n,
        max_new_tokens=max_new_tokens,
        timeout=timeout,
    )
    keep = load_filter(filter_) if filter_ else None
    ahead = read_lookahead(lookahead)

    def suits(one_tokenizer: bool) -> None:
        if isinstance(ahead, int) and not one_tokenizer:
            raise cannot_look_ahead()

    pairs = {}
    for entry in pair or ["tiny"]:
        name, equals, source = entry.partition("=")
        if name in pairs:
            raise InputError(f"the pair {name!r} is given twice", hint="name one of them NAME=PAIR")
        options = engine_options(engine, engine_option)
        if device != "auto":
            options["device"] = device
        if ENGINES[engine].in_process:
            options["suits"] = suits
        with waiting(f"loading {source if equals else name}"):
            pairs[name] = baco.load(source if equals else name, dtype=dtype, **options)
    served = create_app(
        pairs,
        settings,
        lookahead=ahead,
        keep=keep,
    )
    if host not in ("127.0.0.1", "::1", "localhost") and api_key is None:
        typer.echo(f"anyone who reaches {host}:{port} can use this server: no --api-key", err=True)
    config = uvicorn.Config(
        served,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=grace,
        server_header=False,
        http=bounded(most_connections(max_connections)),
        ws="none",
    )
    shown = f"[{host}]" if ":" in host else host
    with _listen(host, port) as listener:
        address = f"http://{shown}:{listener.getsockname()[1]}"
        typer.echo(f"playground {address}/   API {address}/v1", err=True)
        uvicorn.Server(config).run(sockets=[listener])


def _read_keys(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the keys in {path}: {error}", hint="name a text file"
        ) from None


def _listen(host: str, port: int) -> socket.socket:
    """Takes the port before anything is promised."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot listen at {host}:{port}: {error.strerror}", hint="use another --port"
        ) from None
    return listener
