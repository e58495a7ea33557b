"""Workloads in processes of their own."""

from __future__ import annotations

import os

import pytest

from convatlas.experiments.engine.timings import NUM_PROCESSES, in_processes


@pytest.mark.slow
def test_each_process_is_new() -> None:
    found = in_processes(os.getpid)
    assert len(set(found) | {os.getpid()}) == NUM_PROCESSES + 1
