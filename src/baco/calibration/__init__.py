"""One control for every router and pair: diversity, the share of words that the base model writes.

A router's threshold means something else for every router and pair (so does the control of a method
without a router, which is calibrated likewise). Calibration measures, on
prompts, which share of units the base model begins at each of many thresholds, makes the curve
monotone, and stores it for that revision of the pair. `resolve` reads it the other way round:
from a diversity in [0, 1] to the threshold.

Paper: §4 (controls of each method), §6.4 (moving along the quality-diversity spectrum).
"""

from __future__ import annotations

from baco.calibration.curve import (
    CalibrationInfo,
    Curve,
    Knot,
    ThresholdAxis,
    UncalibratedError,
    curve_name,
    find,
    prior,
    resolve,
    save,
)
from baco.calibration.measure import (
    QUICK,
    Effort,
    for_quality,
    isotonic,
    measure,
)
from baco.calibration.prompts import general_prompts, prompts_for, spread

__all__ = [
    "QUICK",
    "CalibrationInfo",
    "Curve",
    "Effort",
    "Knot",
    "ThresholdAxis",
    "UncalibratedError",
    "curve_name",
    "find",
    "for_quality",
    "general_prompts",
    "isotonic",
    "measure",
    "prior",
    "prompts_for",
    "resolve",
    "save",
    "spread",
]
