"""Processes of our own code."""

from __future__ import annotations

import os
import subprocess
import sys

from convatlas.experiments.engine.child_process import start_process


def echo() -> None:
    """Print the threads, whether this is a process group of its own, the arguments, and standard input."""
    print(os.environ["OMP_NUM_THREADS"], os.getpgid(0) == os.getpid(), *sys.argv[1:], sys.stdin.read())


def test_a_process_has_its_threads_arguments_and_input() -> None:
    process = start_process(echo, "one", "two", num_threads=3, stdout=subprocess.PIPE)
    output, _ = process.communicate(b"three")
    assert output.split() == [b"3", b"True", b"one", b"two", b"three"]
    assert process.returncode == 0
