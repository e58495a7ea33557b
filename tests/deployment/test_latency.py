"""Latencies in a runtime, as compress takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

import convatlas as ca
from convatlas.compression.compress import compress
from convatlas.compression.target import LatencyTarget
from convatlas.deployment.latency import RuntimeEngine
from convatlas.deployment.manifest import RuntimeName
from convatlas.errors import UserError
from convatlas.runs.run import Run


def test_a_target_says_what_it_is_measured_in() -> None:
    assert str(LatencyTarget(5e-3)) == "5 ms"
    assert str(replace(LatencyTarget(5e-3), engine=RuntimeEngine(RuntimeName.OPENVINO))) == "5 ms in OpenVINO"


def test_an_engine_without_a_latency_is_one_line(finished: Callable[..., Run]) -> None:
    with pytest.raises(UserError, match="`engine` is what a latency is measured in"):
        compress(finished("lenet5"), "2 MB", "out", engine=RuntimeEngine(RuntimeName.ONNX))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RuntimeName)
def test_wider_networks_take_longer(runtime: RuntimeName) -> None:
    variant = ca.find("resnet20-cifar")
    narrow, wide = (
        LatencyTarget(1, RuntimeEngine(runtime)).cost(variant, variant.spec.scaled(width=width)) for width in (0.25, 2)
    )
    assert 0 < narrow < wide / 3
