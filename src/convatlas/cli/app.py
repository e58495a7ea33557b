"""The commands, and how errors end them."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

import convatlas
from convatlas.cli.atlas import compare, list_variants, show
from convatlas.cli.cache import cache
from convatlas.cli.claims import claims
from convatlas.cli.compression import compress, unpack, update
from convatlas.cli.console import print_error, print_line
from convatlas.cli.experiment import experiment
from convatlas.cli.text import prepare_streams
from convatlas.cli.training import find_lr, resume, train
from convatlas.cli.use import evaluate, predict, report
from convatlas.errors import UserError
from convatlas.torchrun import Worker

VERBS: dict[str, Callable[..., None]] = {
    "list": list_variants,
    "show": show,
    "compare": compare,
    "claims": claims,
    "train": train,
    "resume": resume,
    "find-lr": find_lr,
    "evaluate": evaluate,
    "report": report,
    "predict": predict,
    "compress": compress,
    "unpack": unpack,
    "update": update,
}

app = typer.Typer(
    name="convatlas",
    help="The convolutional networks that made history, built as their papers print them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for name, verb in VERBS.items():
    app.command(name)(verb)
app.add_typer(experiment, name="experiment")
app.add_typer(cache, name="cache")


def print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"convatlas {convatlas.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


OPTIONS = {"init_from": "--from", "num_seeds": "--seeds"}
"""Options with other names than the library's arguments."""


def with_options(message: str) -> str:
    """A library's message with the command's options in place of argument names, which stand in backticks."""
    return re.sub(r"`(\w+)`", lambda name: OPTIONS.get(name[1], f"--{name[1].replace('_', '-')}"), message)


def main() -> None:
    """Run the command. A mistake is one line on standard error and exit status 2; a bug keeps its traceback."""
    # PyTorch's threads wait for one another by spinning. Beside another busy program, the one they wait for gets no
    # core, and training takes several times as long; a shorter spin costs nothing otherwise. Read when torch loads.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # What a notebook or a desktop sets may not be installed here, and the command draws into files only. Read when
    # matplotlib loads.
    os.environ.pop("MPLBACKEND", None)
    prepare_streams()
    try:
        status = app(standalone_mode=False)
    except typer.TyperException as error:
        # Without a command there is no message: the help has been printed.
        if message := error.format_message():
            print_error(" ".join(message.split()))
        sys.exit(2)
    except typer.Abort:
        print_error("stopped by Ctrl-C")
        sys.exit(128 + signal.SIGINT)
    except UserError as error:
        print_error(with_options(str(error)))
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if Worker.from_env().world_size > 1 and re.search("gloo|nccl", str(error), re.IGNORECASE):
            # torchrun restarts all of them, if it may; neither a user's mistake nor a bug.
            print_error("another process of this training was lost, so this one stops; resume from the last checkpoint")
            sys.exit(1)
        # On the CPU, PyTorch has no exception of its own for running out of memory.
        if isinstance(error, RuntimeError) and not re.search("can't allocate memory|out of memory", str(error)):
            raise
        print_error("not enough memory; choose a smaller --resolution, --width or --batch-size")
        sys.exit(2)
    except OSError as error:
        # As a full disk, or a folder that may not be written to.
        if error.strerror is None:
            raise
        print_error(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)
