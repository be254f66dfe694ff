"""From what users give, all of it optional, to a checked `Setting`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from baco.engine.loop import Lookahead
from baco.engine.warp import Warp
from baco.errors import InputError
from baco.methods import METHODS
from baco.methods.base import Sampling, Setting
from baco.routers import parse
from baco.routers.base import Router

DEFAULT_ROUTER = "p-punc"
"""The paper's best router (§5.2), with its own default threshold."""

COLDEST, HOTTEST = 1e-3, 1e3
"""Temperatures between which logits in single precision neither overflow nor vanish."""

Calibration = Callable[[str, float], Router]
"""(router's spec, diversity in [0, 1]) -> the router that reaches it on one pair."""


def make_setting(
    *,
    method: str = "baco",
    router: str | Router | None = None,
    gamma: float | str | None = None,
    diversity: float | None = None,
    temperature: float = 1.0,
    top_p: float = 0.9,
    top_k: int = 0,
    min_p: float = 0.0,
    max_new_tokens: int = 512,
    seed: int = 0,
    stop: str | Sequence[str] | None = None,
    restart_shorter_than: int = 0,
    lookahead: Lookahead = "auto",
    max_rows: int = 256,
    calibration: Calibration | None = None,
) -> Setting:
    """Checks everything that decides how samples are made.

    Args:
        method: Name of a method.
        router: A spec such as ``p-punc@0.3``, or a router; None for the default.
        gamma: The router's threshold, where the spec gives none.
        diversity: The calibrated control in [0, 1], instead of a threshold.
        temperature: As `Warp`.
        top_p: As `Warp`.
        top_k: As `Warp`.
        min_p: As `Warp`.
        max_new_tokens: Limit on tokens per sample.
        seed: Decides all noise.
        stop: A string, or several, before which a sample is cut off.
        restart_shorter_than: Samples that stop by themselves with fewer tokens are drawn again.
        lookahead: ``auto``, ``off`` or the longest draft.
        max_rows: Rows decoded at the same time.
        calibration: Turns a diversity into a router of the pair; None if it is not calibrated.

    Returns:
        The setting.

    Raises:
        UnknownNameError: If a method or router is unknown.
        InputError: If a value is out of range, or two controls are given.
    """
    chosen = METHODS[method]
    if chosen.takes_router:
        bound = _router(router, gamma, diversity, calibration)
    else:
        bound = None
        given = {"router": router, "gamma": gamma, "diversity": diversity}
        for name, value in given.items():
            if value is not None:
                raise InputError(
                    f"the method {method!r} has no {name}",
                    hint=f"its control is the {chosen.control}; leave out {name}",
                )
    if 0 < temperature < COLDEST or HOTTEST < temperature < math.inf:
        raise InputError(
            f"temperature {temperature:g} is out of range",
            hint=f"use 0 (greedy), or {COLDEST:g} to {HOTTEST:g}",
        )
    return Setting(
        chosen,
        bound,
        Sampling(
            warp=Warp(temperature, top_p, top_k, min_p),
            max_new_tokens=max_new_tokens,
            stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
            restart_shorter_than=restart_shorter_than,
            seed=seed,
        ),
        lookahead,
        max_rows,
    )


def _router(
    router: str | Router | None,
    gamma: float | str | None,
    diversity: float | None,
    calibration: Calibration | None,
) -> Router:
    """Settles the router and its one control."""
    if diversity is None:
        if isinstance(router, Router):
            return router if gamma is None else parse(router.spec, gamma)
        return parse(router or DEFAULT_ROUTER, gamma)
    if gamma is not None:
        raise InputError("diversity and gamma are both given", hint="leave out one of the two")
    if not 0 <= diversity <= 1:
        raise InputError(f"diversity {diversity:g} is out of range", hint="use a value in [0, 1]")
    if isinstance(router, str) and "@" in router.rpartition(">")[2]:
        raise InputError(
            f"router {router!r} names its threshold and diversity gives another",
            hint="leave out one of the two",
        )
    spec = router.name if isinstance(router, Router) else router or DEFAULT_ROUTER
    plain = parse(spec)
    if calibration is None:
        raise InputError(
            f"diversity needs a calibration table of router {plain.name!r} for this pair, "
            "and there is none",
            hint="give the threshold itself: gamma, or @threshold in the router",
        )
    return calibration(spec, diversity)
