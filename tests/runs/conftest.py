"""A finished run whose training was short."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import convatlas as ca
from convatlas.runs.options import Runtime, Validation
from convatlas.runs.run import Run, load_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that no test may change."""
    out = tmp_path_factory.mktemp("finished") / "run"
    return ca.train("lenet1", epochs=3, validation=Validation(val_split=0.2), runtime=Runtime(autotune=False), out=out)


@pytest.fixture
def damaged(finished: Run, tmp_path: Path) -> Run:
    """The same run in a folder that a test may damage."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    return load_run(tmp_path / "copy")
