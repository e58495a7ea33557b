"""A process that has imported everything, and forks itself for each job: to start Python anew takes seconds.

A job comes as a line of JSON, and what became of it goes out as one. Before and after each change of the disk that it
asks the system for there is a moment at which it can be killed.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from convatlas import draw
from convatlas.cli import main
from convatlas.errors import UserError

CHANGES = ("replace", "rename", "unlink", "remove", "fsync", "mkdir", "rmdir")
MODULES = (
    "PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PngImagePlugin", "PIL.PpmImagePlugin",
    "convatlas.cli.app", "convatlas.cli.progress", "convatlas.compression.compress", "convatlas.draw",
    "convatlas.experiments", "convatlas.models.codec.update", "convatlas.training.sweep",
    "convatlas.training.tensorboard", "filelock", "optuna.samplers", "optuna.storages", "pydantic.fields",
    "sqlalchemy.dialects.sqlite", "torch._dynamo", "torch.distributed.nn",
)  # fmt: skip


def serve() -> None:
    for name in MODULES:
        importlib.import_module(name)
    # The first chart takes longer, too.
    draw.confusion_matrix("", ("a", "b"), np.eye(2))
    assert len(os.listdir("/proc/self/task")) == 1, "a fork has one thread, and would wait for the others for ever"
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        begun = time.monotonic()
        pid = os.fork()
        if not pid:
            os._exit(carried_out(job))
        ended = os.pidfd_open(pid)
        # Without a time, this waits.
        if not select.select([ended], [], [], job["kill_after_s"])[0]:
            os.kill(pid, signal.SIGKILL)
        os.close(ended)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"status": status, "seconds": time.monotonic() - begun}), flush=True)


def carried_out(job: dict[str, Any]) -> int:
    """The status of a command, or of a program that uses the library."""
    os.setsid()
    os.environ |= job["environment"]
    os.chdir(job["folder"])
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    watch(job["kill_at"], os.open(job["moments"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND))
    try:
        if isinstance(job["task"], str):
            exec(job["task"], {})
        else:
            sys.argv = ["convatlas", *job["task"]]
            main()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except UserError as error:
        print(error)
        status = 2
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def watch(kill_at: int | None, log: int) -> None:
    """Write down every moment, and end this process at one of them."""
    count = itertools.count()

    def moment(text: str) -> None:
        number = next(count)
        os.write(log, f"{number} {text}\n".encode())
        if number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            what = " ".join([name, *(Path(arg).name for arg in args if isinstance(arg, str | Path))])
            moment(f"before {what}")
            result = function(*args, **kwargs)
            moment(f"after {what}")
            return result

        return call

    for name in CHANGES:
        setattr(os, name, watched(getattr(os, name), name))


if __name__ == "__main__":
    serve()
