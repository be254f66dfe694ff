"""Curves for the server's pairs; what is missing is measured beside the clients' requests."""

from __future__ import annotations

import logging
import threading
import time
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


@dataclass
class Run:
    """A calibration in progress.

    Attributes:
        started: When, on the monotonic clock.
        done: How much is done, in [0, 1].
        error: Why it failed, or None.
    """

    started: float
    done: float = 0.0
    error: Exception | None = None

    @property
    def retry_after(self) -> int:
        """Seconds after which it may be finished."""
        spent = time.monotonic() - self.started
        left = spent * (1 - self.done) / self.done if self.done else 5.0
        return max(1, min(60, round(left)))


class Calibrator:
    """Keeps the curves of one pair; starts quick calibrations in the background.

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
        self._lock = threading.Lock()
        self.runs: dict[str, Run] = {}

    def curve(self, router: str) -> Curve | None:
        """Returns the curve of a router if there is one."""
        if router not in self._curves:
            curve = calibration.find(self._pair.name, self._pair.revision, router)
            if curve is None:
                return None
            self._curves[router] = curve
        return self._curves[router]

    def resolve(self, router: str, diversity: float) -> tuple[Router, CalibrationInfo]:
        """As `calibration.resolve`; starts to measure where there is no curve.

        Raises:
            ApiError: 503 while the pair is being calibrated for this router.
        """
        from baco.routers import parse

        name = parse(router).name
        curve = self.curve(name)
        try:
            return calibration.resolve(self._pair, router, diversity, curve=curve)
        except calibration.UncalibratedError:
            run = self.start(name)
        raise ApiError(
            503,
            f"the pair {self._pair.name!r} is being calibrated for router {name!r}, "
            f"{run.done:.0%} done; try again soon, or give gamma instead of diversity",
            code="calibrating",
            param="diversity",
            retry_after=run.retry_after,
        )

    def start(self, router: str) -> Run:
        """Starts a calibration in the background unless one is running.

        Raises:
            ApiError: If the last attempt failed.
        """
        with self._lock:
            run = self.runs.get(router)
            if run is None:
                run = self.runs[router] = Run(time.monotonic())
                log.info("calibrating pair %s for router %s", self._pair.name, router)
                threading.Thread(
                    target=self._measure, args=(router, run), name="baco-calibrate", daemon=True
                ).start()
            elif run.error is not None:
                del self.runs[router]
                raise ApiError(500, f"calibration failed: {run.error}", code="calibration_failed")
            return run

    def _measure(self, router: str, run: Run) -> None:
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
