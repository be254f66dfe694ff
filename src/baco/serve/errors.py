"""Errors as OpenAI's clients expect them: one JSON object, a fitting status, `Retry-After`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from baco.errors import BacoError, InputError, PairError, UnsupportedError, clipped
from baco.routers import is_local

log = logging.getLogger("baco.serve")

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


_FAILED = "model_failed"
"""The code of what fails again however often it is asked."""

_LONGEST = 1000
"""Characters of a message, whatever is repeated in it."""


class ApiError(Exception):
    """An answer other than success.

    Args:
        status: HTTP status.
        message: What is wrong and how to mend it.
        code: A stable word for programs.
        param: The field at fault.
        retry_after: Seconds after which trying again makes sense.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = clipped(message, _LONGEST)
        self.code = code
        self.param = None if param is None else clipped(param)
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body."""
        kind = _TYPES.get(self.status)
        if kind is None:
            kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """The HTTP response."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.code == _FAILED:
            headers["x-should-retry"] = "false"  # OpenAI's clients repeat what ends in 5xx
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


def refuse_local(router: str) -> None:
    """Refuses router specs that name files or functions: a server opens none for its clients.

    Raises:
        ApiError: 400.
    """
    if is_local(router):
        what = "function" if ":" in router.partition("@")[0] else "file"
        raise ApiError(
            400,
            f"router {clipped(router)!r} is a {what}, and {what}s are not served; use p-punc",
            param="router",
            code="unsupported",
        )


def api_error(error: BaseException) -> ApiError:
    """Turns any exception into what a client may see of it."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, BacoError):
        # What the client wrote may be in it, and long; the hint is to be read all the same.
        said = clipped(error.message, _LONGEST // 2)
        said = f"{said} ({error.hint})" if error.hint else said
        if isinstance(error, InputError):
            return ApiError(400, said)
        if isinstance(error, UnsupportedError):
            return ApiError(400, said, code="unsupported")
        if isinstance(error, PairError):
            return ApiError(500, said, code=_FAILED)  # as it would the next time
        return ApiError(503, said, retry_after=5)
    return ApiError(500, "the server failed to answer; its log says more", code="internal_error")


def _first(errors: Sequence[Any]) -> tuple[str, str | None, str | None]:
    """Picks the most telling of a validation's errors: message, field, code."""
    # Of a union's branches, the one whose type fitted, or that went deepest, was meant.
    worst = max(errors, key=lambda e: (not e["type"].endswith("_type"), len(e["loc"])))
    path = [str(part) for part in worst["loc"] if part not in ("body", "query", "header")]
    if worst["type"] == "json_invalid":
        return f"the body is not valid JSON: {worst['ctx']['error']}", None, "invalid_json"
    if not path:
        message = worst["msg"].removeprefix("Value error, ")
        if worst["type"] == "missing":
            return "the request has no body", None, "missing"
        if worst["type"] in ("model_attributes_type", "dict_type"):
            return (
                "the body must be a JSON object, sent as Content-Type: application/json",
                None,
                worst["type"],
            )
        return message, None, worst["type"]
    field = _dotted(path)
    if worst["type"] == "extra_forbidden":
        return f"unknown field {field!r}; leave it out or mend its spelling", field, "unknown_field"
    return f"{field}: {worst['msg'].removeprefix('Value error, ')}", field, worst["type"]


def _dotted(path: Sequence[str]) -> str:
    """Writes a location without the names of a union's branches."""
    kept = [p for p in path if p.isidentifier() or p.isdigit()]
    return ".".join(p for i, p in enumerate(kept) if i == 0 or p not in ("str", "int", "float"))


def install(app: FastAPI) -> None:
    """Gives an app handlers that answer every error in this shape."""

    @app.exception_handler(ApiError)
    async def _(_request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(BacoError)
    async def _(_request: Request, error: BacoError) -> JSONResponse:
        return api_error(error).response()

    @app.exception_handler(RequestValidationError)
    async def _(_request: Request, error: RequestValidationError) -> JSONResponse:
        message, param, code = _first(error.errors())
        return ApiError(400, message, param=param, code=code).response()

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> JSONResponse:
        messages = {
            404: f"there is nothing at {clipped(request.url.path)}; the API is under /v1",
            405: f"{request.method} is not allowed here; see /openapi.json",
        }
        message = messages.get(error.status_code, str(error.detail))
        response = ApiError(error.status_code, message).response()
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def _(_request: Request, error: Exception) -> JSONResponse:
        log.error("request failed", exc_info=error)
        return api_error(error).response()
