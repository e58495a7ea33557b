"""The scripts in benchmarks/ still fit the package: each is imported, and what measures compression runs once."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, path: Path) -> ModuleType:
    """A script as a module; like every program it finds those beside it."""
    monkeypatch.syspath_prepend(path.parent)
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_is_imported(script: ModuleType, path: Path) -> None:
    assert script.__doc__ is not None
    assert path.stem == "measured" or f"python benchmarks/{path.name}" in script.__doc__


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.stem == "inference"])
def test_a_target_of_times_is_met_with_its_whole_interval(script: ModuleType, path: Path) -> None:
    times = {"onnx": (1.0,) * 10, "rival onnx": (1.1,) * 10, "rival eager": (20.0,) * 10}
    assert script.best_of(times, ("onnx", "openvino")) == "onnx"
    assert script.best_of(times, ("rival onnx", "rival eager")) == "rival onnx"
    spreading = (0.9, 1.0, 1.1, 0.95, 1.05, 1.0, 1.12, 0.88, 1.0, 1.0)
    for ratios, is_met in (((1.0,) * 10, True), (spreading, False)):
        found = {"ours": "onnx", **script.with_interval(ratios)}
        assert found["low"] <= found["ratio"] <= found["high"]
        ms = {name: {"median": each[0]} for name, each in times.items()}
        behind, faster, aim = script.targets({"efficientnet-b0": {"ms": ms, "float": found, "best": found}})
        assert behind.is_met == is_met
        assert (faster.wanted, faster.is_met) == (0.833, False)
        assert aim.is_met


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.stem == "compress"])
def test_a_network_is_made_smaller_and_its_update_measured(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = script.Row("small", "lenet5-modern", "digits", 100.0, 1, times_smaller=20, rounds=1, learned=1)
    monkeypatch.setattr(script, "ROWS", (row,))
    monkeypatch.setattr(script, "TURNS", 2)
    assert script.shrunk(row, tmp_path)["times_smaller"] >= 20
    assert 0 < script.updated(tmp_path)["part_of_new"] < 1
