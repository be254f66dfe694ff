"""Curves for the server's pairs; what is missing is measured beside the clients' requests."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baco import calibration
from baco.calibration import CalibrationInfo, Curve
from baco.errors import InputError
from baco.routers import Router
from baco.serve.errors import ApiError
from baco.serve.worker import Worker

if TYPE_CHECKING:
    from baco.pair import Pair

log = logging.getLogger("baco.serve")

MOST_WAITING = 4
"""Calibrations of a pair that run or wait."""

MOST_CURVES = 64
"""Curves of a pair that one server measures: each is a file, and a router's spec is anyone's."""


@dataclass
class CalibrationRun:
    """A calibration in progress.

    Attributes:
        started: When, on the monotonic clock; None while it waits for others.
        done: How much is done, in [0, 1].
        error: Why it failed, or None.
    """

    started: float | None = None
    done: float = 0.0
    error: Exception | None = None

    @property
    def retry_after(self) -> int:
        """Seconds after which it may be finished."""
        left = 5.0
        if self.started is not None and self.done:
            left = (time.monotonic() - self.started) * (1 - self.done) / self.done
        return max(1, min(60, round(left)))


class Calibrator:
    """Keeps the curves of one pair; does quick calibrations in the background, one at a time.

    Args:
        pair: The pair.
        worker: Makes the calibration's samples.
        effort: How carefully to measure.
    """

    def __init__(
        self, pair: Pair, worker: Worker, effort: calibration.Effort = calibration.QUICK
    ) -> None:
        self._pair = pair
        self._worker = worker
        self._effort = effort
        self._curves: dict[str, Curve] = {}
        self._measured = 0
        self._lock = threading.Lock()
        self._queue: deque[tuple[str, CalibrationRun]] = deque()
        self._thread: threading.Thread | None = None
        self.runs: dict[str, CalibrationRun] = {}

    def curve(self, router: str) -> Curve | None:
        """Returns the curve of a router if there is one."""
        if router not in self._curves:
            curve = calibration.find(self._pair.name, self._pair.revision, router)
            if curve is None:
                return None
            self._curves[router] = curve
        return self._curves[router]

    def resolve(self, router: str, diversity: float) -> tuple[Router | float, CalibrationInfo]:
        """As `calibration.resolve`; starts to measure where there is no curve.

        Raises:
            ApiError: 503 while the pair is being calibrated for this router.
        """
        name = calibration.curve_name(router)
        curve = self.curve(name)
        try:
            return calibration.resolve(self._pair, router, diversity, curve=curve)
        except calibration.UncalibratedError:
            run = self.start(name)
        raise ApiError(
            503,
            f"the pair {self._pair.name!r} is being calibrated for {name!r}, {run.done:.0%} done; "
            "try again soon, or give gamma (of a method without a router control) instead of "
            "diversity",
            code="calibrating",
            param="diversity",
            retry_after=run.retry_after,
        )

    def start(self, router: str) -> CalibrationRun:
        """Queues a calibration unless it is running or waiting already.

        Args:
            router: The router's name, as `Router.curve_name` has it.

        Raises:
            ApiError: If the last attempt failed, or too much waits or was measured.
        """
        with self._lock:
            run = self.runs.get(router)
            if run is not None and run.error is not None:
                del self.runs[router]
                raise ApiError(500, f"calibration failed: {run.error}", code="calibration_failed")
            if run is None:
                self._refuse_more()
                run = self.runs[router] = CalibrationRun()
                self._queue.append((router, run))
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._work, name="baco-calibrate", daemon=True
                    )
                    self._thread.start()
            return run

    def _refuse_more(self) -> None:
        for router in [name for name, run in self.runs.items() if run.error is not None]:
            if len(self.runs) >= MOST_WAITING:
                del self.runs[router]
        if len(self.runs) >= MOST_WAITING:
            raise ApiError(
                429,
                f"{MOST_WAITING} calibrations run or wait already; try again later, or give gamma "
                "instead of diversity",
                code="calibrations_full",
                param="router",
                retry_after=30,
            )
        if self._measured >= MOST_CURVES:
            raise ApiError(
                429,
                f"this server has calibrated {MOST_CURVES} routers and takes no more; give gamma "
                "instead of diversity, or calibrate beforehand with baco calibrate",
                code="calibrations_full",
                param="router",
            )

    def _work(self) -> None:
        """Measures what is queued, and ends."""
        while True:
            with self._lock:
                if not self._queue:
                    self._thread = None
                    return
                router, run = self._queue.popleft()
                self._measured += 1
            run.started = time.monotonic()
            log.info("calibrating pair %s for router %s", self._pair.name, router)
            self._measure(router, run)

    def _measure(self, router: str, run: CalibrationRun) -> None:
        effort = self._effort
        step = 1 / (effort.prompts * effort.samples * effort.thresholds)

        def told() -> None:
            run.done = min(run.done + step, 0.99)

        try:
            curve = calibration.measure(
                self._pair,
                router,
                effort=self._effort,
                make=lambda runs: self._worker.make(runs, told).result(),
            )
        except Exception as error:
            log.warning("calibration for router %s failed: %s", router, error)
            run.error = error
            return
        with self._lock:
            self._curves[router] = curve
            self.runs.pop(router, None)
        try:
            log.info("calibrated router %s: %s", router, calibration.save(curve))
        except InputError as error:
            log.warning("the curve is kept in memory only: %s", error)
