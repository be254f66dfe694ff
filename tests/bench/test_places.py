"""Engines are placed one to a device, or to a group of devices."""

from __future__ import annotations

from typing import Any

import pytest

from baco.bench.places import found_devices, on_nodes, places
from baco.errors import InputError

from .fake import plan

EIGHT = [str(i) for i in range(8)]


def run(**values: Any) -> Any:
    return plan(run=values)


def node(gpus: float, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": 16.0} | ({"GPU": gpus} if gpus else {})}


def test_one_engine_on_each_device() -> None:
    assert places(run(), EIGHT, None) == [(device,) for device in EIGHT]
    assert places(run(device="cuda"), EIGHT, 3) == [("0",), ("1",), ("2",)]
    assert places(run(device="cpu"), EIGHT, None) == [(), ()]
    assert places(run(), [], None) == [(), ()]
    assert places(run(), [], 5) == [()] * 5


def test_groups_for_tensor_parallel() -> None:
    four = run(engine="vllm", engine_options={"tensor_parallel_size": 4})
    assert places(four, EIGHT, None) == [("0", "1", "2", "3"), ("4", "5", "6", "7")]
    assert places(four, EIGHT[:7], None) == [("0", "1", "2", "3")]
    ours = run(engine="baco", engine_options={"tensor_parallel_size": 4})  # not an option of it
    assert len(places(ours, EIGHT, None)) == 8


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(InputError, match="9 engines of 1 devices each do not fit on 8"):
        places(run(), EIGHT, 9)
    with pytest.raises(InputError, match="1 engines of 4 devices each do not fit on 2"):
        places(run(engine="vllm", engine_options={"tensor_parallel_size": 4}), EIGHT[:2], None)
    with pytest.raises(InputError, match="'cuda:3' is one device"):
        places(run(device="cuda:3"), EIGHT, None)
    with pytest.raises(InputError, match="no CUDA device"):
        places(run(device="cuda"), [], None)


@pytest.mark.parametrize("size", ["two", 0, -1, 2.0, True])
def test_a_group_is_of_a_whole_number_of_devices(size: object) -> None:
    with pytest.raises(InputError, match=r"tensor_parallel_size = .* is no number of devices"):
        places(run(engine="vllm", engine_options={"tensor_parallel_size": size}), EIGHT, None)


def test_nodes_of_a_cluster() -> None:
    nodes = [node(8), node(4), node(0), node(8, alive=False)]
    assert on_nodes(run(), nodes, None) == (12, 1)
    assert on_nodes(run(), nodes, 5) == (5, 1)
    six = run(engine="vllm", engine_options={"tensor_parallel_size": 6})
    assert on_nodes(six, nodes, None) == (1, 6)  # a group is within a node
    assert on_nodes(run(device="cpu"), nodes, None) == (2, 0)
    assert on_nodes(run(), [node(0)], 3) == (3, 0)
    with pytest.raises(InputError, match="2 engines of 6 devices each do not fit on 12"):
        on_nodes(six, nodes, 2)


@pytest.mark.parametrize(
    ("value", "devices"),
    [("0,1", ["0", "1"]), (" 3 , GPU-8f ", ["3", "GPU-8f"]), ("", []), ("-1", [])],
)
def test_devices_that_are_visible(
    value: str, devices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert found_devices() == devices
