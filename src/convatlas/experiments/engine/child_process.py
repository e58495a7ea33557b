"""A Python process of our own code, which gets its work on standard input."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

# Not multiprocessing or concurrent.futures: they start a process by importing the caller's main module, which breaks in
# a script without `if __name__ == "__main__"`; Ctrl-C reaches their processes, too; and those of a process pool outlive
# a parent that is killed.


def start_process(
    main: Callable[[], None], *arguments: str, num_threads: int, stdout: int | None = None, bufsize: int = -1
) -> subprocess.Popen[bytes]:
    """Start a process that calls `main`.

    Args:
        main: a function of a module, by which the new process finds it.
        arguments: of its command line.
        num_threads: how many threads torch computes with; it reads that when it is loaded.
        stdout, bufsize: as of `subprocess.Popen`.
    """
    return subprocess.Popen(
        [sys.executable, "-c", f"from {main.__module__} import {main.__name__} as main; main()", *arguments],
        stdin=subprocess.PIPE,
        stdout=stdout,
        bufsize=bufsize,
        env=os.environ | {"OMP_NUM_THREADS": str(num_threads)},
        # Ctrl-C reaches the parent alone, which stops the others.
        start_new_session=True,
    )
