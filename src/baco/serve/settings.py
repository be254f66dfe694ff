"""What the operator of a server can set."""

from __future__ import annotations

from dataclasses import dataclass

from baco.errors import InputError


@dataclass(frozen=True)
class Settings:
    """Limits and doors of a server; the defaults suit one machine and its owner.

    Attributes:
        api_key: The key that requests must bear, or None for an open server. Several, separated by
            white space, are those of several clients, who are served in turn.
        cors_origins: Web origins that browsers may call from; none by default.
        allowed_hosts: Names that clients may call the server by, besides addresses and
            ``localhost``; ``*`` for any.
        lenient: Whether fields that cannot be honoured are answered with a warning, not refused.
        max_rows: Samples decoded at the same time, per pair; more wait.
        max_waiting: Samples that may wait for their turn, per pair, those of one client up to half
            of it; beyond it: 429.
        max_n: Largest `n` of a request.
        max_new_tokens: Largest `max_tokens` of a request.
        default_new_tokens: `max_tokens` of a request that names none.
        max_body: Largest request body in bytes; beyond it: 413.
        timeout: Seconds after which a request is given up.
        body_timeout: Seconds in which a request's body must have come.
    """

    api_key: str | None = None
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    lenient: bool = False
    max_rows: int = 64
    max_waiting: int = 512
    max_n: int = 64
    max_new_tokens: int = 4096
    default_new_tokens: int = 512
    max_body: int = 1 << 20
    timeout: float = 600.0
    body_timeout: float = 60.0

    def __post_init__(self) -> None:
        for name in ("max_rows", "max_n", "max_new_tokens", "default_new_tokens", "max_body"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1", hint="leave it out for the default")
        if self.max_waiting < 0:
            raise InputError("max_waiting must not be negative", hint="0 refuses what must wait")
        if not (self.timeout > 0 and self.body_timeout > 0):
            raise InputError("timeout must be positive", hint="give seconds, such as 600")
        if self.api_key is not None and not self.keys:
            raise InputError("the API key is empty", hint="leave it out for an open server")

    @property
    def keys(self) -> list[str]:
        """The API keys."""
        return (self.api_key or "").split()
