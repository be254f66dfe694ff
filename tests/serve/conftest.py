"""Fixtures: a toy pair with made-up curves, and a real server on a free port."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")
pytest.importorskip("prometheus_client", reason="needs the extra `serve`")

import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from baco.calibration import Curve, Knot, ThresholdAxis, save
from baco.errors import InputError
from baco.pair import Pair
from baco.routers import CASCADES, ROUTERS
from baco.serve import Settings, create_app
from support.browser import CHROMIUM, FLAGS

from .pairs import random_pair


class Client(TestClient):
    """A client in the same process, which calls the server by a name that it goes by."""

    def __init__(self, app: FastAPI, **how: Any) -> None:
        super().__init__(app, base_url="http://localhost", **how)


def made_up_curve(pair: Pair, router: str) -> Curve:
    """A curve that was not measured: shares are the places on the axis."""
    axis = ThresholdAxis.of(router)
    knots = tuple(Knot(axis.gamma(i / 8), i / 8, i / 8) for i in range(9))
    return Curve(pair.name, pair.revision, router, knots, 1, 1, 1, 1.0, 0.9, "made-up", "0")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for the tests that look at pages."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The toy pair in float64, with curves for every router that takes a threshold."""
    before = os.environ.get("BACO_HOME")
    os.environ["BACO_HOME"] = str(tmp_path_factory.mktemp("home"))
    toy = random_pair()
    for name in (*CASCADES, *ROUTERS):
        try:
            save(made_up_curve(toy, name))
        except InputError:
            continue  # takes no threshold
    yield toy
    os.environ.pop("BACO_HOME")
    if before is not None:
        os.environ["BACO_HOME"] = before


@contextmanager
def running(app: FastAPI, **how: Any) -> Iterator[str]:
    """Runs an app with uvicorn in a thread; yields its URL."""
    config = uvicorn.Config(
        app, port=0, log_level="warning", access_log=False, timeout_graceful_shutdown=300, **how
    )
    server = uvicorn.Server(config)
    started = threading.Event()
    startup = server.startup

    async def tell(*args: object, **kwargs: object) -> None:
        await startup(*args, **kwargs)  # type: ignore[arg-type]
        started.set()

    server.startup = tell  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(300), "the server did not start"
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(400)
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture(scope="module")
def app(pair: Pair) -> FastAPI:
    return create_app({"toy": pair}, Settings(max_rows=40, max_waiting=2048))


@pytest.fixture(scope="module")
def url(app: FastAPI) -> Iterator[str]:
    with running(app) as address:
        yield address
