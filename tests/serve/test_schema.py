"""Random requests made from our own OpenAPI description: none may break the server."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from baco.pair import Pair
from baco.serve import Settings, create_app

schemathesis = pytest.importorskip("schemathesis", reason="needs the package schemathesis")


@pytest.fixture(scope="module")
def schema(pair: Pair):  # type: ignore[no-untyped-def]
    app = create_app({"toy": pair}, Settings(max_n=4, max_new_tokens=8, default_new_tokens=4))
    return schemathesis.openapi.from_asgi("/openapi.json", app)


lazy = schemathesis.pytest.from_fixture("schema")


@lazy.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
def test_no_request_breaks_the_server(case) -> None:  # type: ignore[no-untyped-def]
    response = case.call()
    case.validate_response(response, checks=[schemathesis.checks.not_a_server_error])
