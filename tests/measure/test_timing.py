"""Durations: who is timed, how often, in which order, and by which engine."""

from __future__ import annotations

import pytest
import torch

from convatlas.measure import Timing, Workload, time_call, time_in_turn, timing, torch_engine


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was called; each call of a name takes as long as the name."""
    called: list[str] = []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(sum(map(len, called))))
    return called


def test_each_is_called_in_turn_after_one_that_warms_up(calls: list[str]) -> None:
    workloads = {name: Workload(lambda name=name: calls.append(name), f"engine {name}") for name in ("a", "bbb")}
    timings = time_in_turn(workloads, repeats=2)
    assert calls == ["a", "bbb"] * 3
    assert timings == {"a": Timing("engine a", (1.0, 1.0)), "bbb": Timing("engine bbb", (3.0, 3.0))}


def test_one_alone_has_its_median(calls: list[str]) -> None:
    lengths = iter([9, 1, 100, 3])
    timing = time_call(lambda: calls.append("x" * next(lengths)), "an engine", repeats=3)
    assert timing == Timing("an engine", (1.0, 100.0, 3.0))
    assert timing.median_s == 3
    assert timing.median_ms == 3000


def test_warm_up_calls_are_not_timed(calls: list[str]) -> None:
    lengths = iter([9, 9, 1, 1])
    assert time_call(lambda: calls.append("x" * next(lengths)), "", repeats=2, num_warmups=2).durations_s == (1, 1)


def test_rounds_go_on_until_each_took_long_enough(calls: list[str]) -> None:
    workloads = {name: Workload(lambda name=name: calls.append(name), "") for name in ("a", "bbb")}
    timings = time_in_turn(workloads, repeats=1, min_s=4)
    assert {name: len(one.durations_s) for name, one in timings.items()} == {"a": 4, "bbb": 4}


def test_an_engine_has_its_mode_precision_and_threads() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch_engine() == "PyTorch eager, float32, 2 threads"
        torch.set_num_threads(1)
        assert torch_engine(compiled=True, precision="int8") == "PyTorch compiled (Inductor), int8, 1 thread"
    finally:
        torch.set_num_threads(before)
    assert torch_engine(torch.device("mps")) == "PyTorch eager, float32, mps"


@pytest.mark.gpu
def test_a_gpu_is_named_and_waited_for() -> None:
    assert torch_engine("cuda") == f"PyTorch eager, float32, {torch.cuda.get_device_name()}"
    x = torch.randn(8192, 8192, device="cuda")
    # 2 x 8192^3 operations take over a millisecond; queuing them does not.
    assert time_call(lambda: x @ x, torch_engine("cuda")).median_ms > 1
