"""A run that learned, for what needs more than initial weights."""

from __future__ import annotations

import pytest

import convatlas as ca
from convatlas.runs.options import Runtime
from convatlas.runs.run import Run
from convatlas.spec import Scale


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("trained") / "run"
    return ca.train("lenet5-modern", epochs=10, scale=Scale(resolution=28), runtime=Runtime(autotune=False), out=folder)
