"""Everything that decides samples is checked, and one control is one control."""

from __future__ import annotations

from dataclasses import replace

import pytest

from baco.errors import InputError, UnknownNameError
from baco.methods import METHODS
from baco.methods.settings import make_setting
from baco.routers import parse


def test_defaults_are_the_papers():
    setting = make_setting()
    assert setting.method.name == "baco"
    assert (setting.router_name, setting.gamma) == ("p-punc", 0.3)
    warp = setting.sampling.warp
    assert (warp.temperature, warp.top_p, warp.top_k, warp.min_p) == (1.0, 0.9, 0, 0.0)
    assert setting.sampling.max_new_tokens == 512


@pytest.mark.parametrize(
    ("given", "name", "gamma"),
    [
        ({"router": "p@0.5"}, "p", 0.5),
        ({"router": "h", "gamma": 2}, "h", 2.0),
        ({"router": "h", "gamma": "inf"}, "h", "inf"),
        ({"router": "p", "gamma": "linear:0.5..0.1/100"}, "p", "linear:0.5..0.1/100"),
        ({"router": "punc"}, "punc", None),
        ({"router": "fc>h@2"}, "fc>h", 2.0),
        ({"router": "p@0.9>h@2"}, "p@0.9>h", 2.0),
        ({"router": parse("p@0.5")}, "p", 0.5),
        ({"method": "aligned"}, None, None),
    ],
)
def test_what_a_sample_will_say_of_its_router(given, name, gamma):
    setting = make_setting(**given)
    assert (setting.router_name, setting.gamma) == (name, gamma)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"control": 0.3, "gamma": 0.5}, "control and gamma are both given.*threshold"),
        ({"control": 0.3, "diversity": 0.5}, "control and diversity are both given"),
        ({"router": "p@0.3", "control": 0.5}, "names its threshold and gamma gives another"),
        ({"router": "p", "control": 2}, "threshold 2 is out of range for router 'p'"),
        (
            {"method": "aligned", "control": 1, "temperature": 1},
            "control and temperature are both given.*'aligned' is the temperature",
        ),
        (
            {"method": "aligned", "control": -1},
            "temperature -1 is out of range for the method 'aligned'.*\\[0, 1000\\]",
        ),
        ({"method": "aligned", "control": "hot"}, "temperature 'hot' of .* is not a number"),
        ({"method": "base", "control": "nan"}, "temperature nan is out of range"),
        ({"n": 0}, "n = 0 is out of range"),
        ({"router": "p@0.3", "gamma": 0.5}, "names its threshold and gamma gives another"),
        ({"gamma": 0.3, "diversity": 0.5}, "diversity and gamma are both given"),
        ({"router": "p@0.3", "diversity": 0.5}, "names its threshold and diversity gives another"),
        ({"diversity": 1.5}, "diversity 1.5 is out of range.*\\[0, 1\\]"),
        ({"diversity": 0.5}, "needs a calibration table"),
        ({"method": "aligned", "gamma": 0.3}, "'aligned' has no gamma.*temperature"),
        ({"method": "base", "router": "p"}, "'base' has no router"),
        ({"router": "p@2"}, "threshold 2 is out of range for router 'p'.*\\[0, 1\\]"),
        ({"router": "punc", "gamma": 0.5}, "'punc' takes no threshold"),
        ({"temperature": -1}, "temperature -1 is out of range"),
        ({"temperature": 1e-40}, "temperature 1e-40 is out of range.*0 \\(greedy\\), or 0.001 to"),
        ({"temperature": 1e300}, r"temperature 1e\+300 is out of range"),
        ({"top_p": 0}, "top-p 0 is out of range"),
        ({"repetition_penalty": 0}, "repetition_penalty 0 is out of range.*0.01 to 100"),
        ({"logit_bias": {1: 200}}, "logit_bias 200 of token 1 is out of range"),
        ({"logit_bias": {"one": 1}}, "what is added for each token id"),
        ({"method": "xtc", "xtc_threshold": 0.1}, "say two things of one"),
        ({"method": "diverse-beam", "frequency_penalty": 1}, "knows no frequency_penalty"),
        ({"method": "diverse-beam", "xtc_probability": 1}, "knows no xtc_probability"),
        ({"max_new_tokens": 0}, "max-new-tokens 0 is out of range"),
        ({"restart_shorter_than": -1}, "restart-shorter-than -1 is out of range"),
        ({"restart_shorter_than": 9, "max_new_tokens": 8}, "is more than max-new-tokens 8"),
        ({"stop": ["a", ""]}, "a stop string is empty"),
    ],
)
def test_bad_settings(given, message):
    with pytest.raises(InputError, match=message):
        make_setting(**given)


@pytest.mark.parametrize(
    ("given", "guess"), [({"method": "algned"}, "aligned"), ({"router": "p-pnc"}, "p-punc")]
)
def test_unknown_names_are_guessed(given, guess):
    with pytest.raises(UnknownNameError, match=f"did you mean .*'{guess}'"):
        make_setting(**given)


def test_a_calibration_makes_the_router():
    setting = make_setting(
        router="p", diversity=0.5, calibration=lambda spec, d: parse(spec).with_gamma(d / 2)
    )
    assert (setting.router_name, setting.gamma) == ("p", 0.25)


@pytest.mark.parametrize(
    ("given", "control"),
    [
        ({}, 0.3),
        ({"router": "h", "control": "2"}, 2.0),
        ({"router": "p", "control": "linear:0.5..0.1/100"}, "linear:0.5..0.1/100"),
        ({"router": "punc"}, None),
        ({"method": "base"}, 1.0),
        ({"method": "aligned", "temperature": 0.5}, 0.5),
        ({"method": "aligned", "control": "0.5"}, 0.5),
    ],
)
def test_every_method_has_one_control(given, control):
    setting = make_setting(**given)
    assert setting.control == control
    if setting.router:
        assert setting.gamma == control
    else:
        assert setting.sampling.warp.temperature == control


def test_methods_tell_what_they_are():
    for name, method in METHODS.items():
        assert name == method.name
        assert all((method.category, method.control, method.span, method.source, method.needs))
        assert (method.default is None) == method.takes_router
        if method.default is not None:
            method.check_control(method.default)
            assert method.low <= method.default <= method.high


def test_methods_check_the_size_of_their_groups():
    method = replace(METHODS["aligned"], multiple=2)
    method.check_n(4)
    with pytest.raises(
        InputError, match=r"n = 3 does not suit the method 'aligned'.*multiple of 2"
    ):
        method.check_n(3)
