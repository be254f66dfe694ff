"""Random requests made from our own OpenAPI description: none may break the server."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from baco.pair import Pair
from baco.serve import Settings, create_app

schemathesis = pytest.importorskip("schemathesis", reason="needs the package schemathesis")

OPERATIONS = {
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("GET", "/baco/info"),
    ("GET", "/baco/calibration"),
    ("POST", "/baco/calibration"),
    ("POST", "/baco/diversity"),
    ("POST", "/tokenize"),
}


def test_no_request_breaks_the_server(pair: Pair) -> None:
    app = create_app(
        {"toy": pair},
        Settings(max_n=4, max_new_tokens=8, default_new_tokens=4, allowed_hosts=("*",)),
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    found = [result.ok() for result in schema.get_all_operations()]
    assert {(o.method.upper(), o.path) for o in found} == OPERATIONS
    fields = app.openapi()["components"]["schemas"]["ChatRequest"]["properties"]
    assert {"repetition_penalty", "logit_bias", "dry_base", "xtc_threshold", "distinct"} <= set(
        fields
    )
    statuses: set[int] = set()
    for operation in found:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        )
        def ask(case) -> None:  # type: ignore[no-untyped-def]
            response = case.call()
            statuses.add(response.status_code)
            case.validate_response(response, checks=[schemathesis.checks.not_a_server_error])

        ask()
    assert 200 in statuses
    assert any(400 <= status < 500 for status in statuses)
