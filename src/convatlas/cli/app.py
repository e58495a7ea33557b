"""The table of verbs, and what becomes of a mistake."""

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
from convatlas.cli.console import complain
from convatlas.cli.experiment import experiment
from convatlas.cli.training import find_lr, resume, train
from convatlas.cli.use import evaluate, predict, report
from convatlas.errors import UserError

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
        typer.echo(f"convatlas {convatlas.__version__}")
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
    # PyTorch's threads wait for one another by spinning. Beside another busy program the one that is waited for gets no
    # core, and training takes several times as long; a shorter spin costs nothing alone. Read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        status = app(standalone_mode=False)
    except typer.TyperException as error:
        # Typed without a verb: the help is the answer, and has been printed.
        if message := error.format_message():
            complain(message)
        sys.exit(2)
    except typer.Abort:
        complain("stopped by Ctrl-C")
        sys.exit(128 + signal.SIGINT)
    except UserError as error:
        # Of processes that torchrun started on a machine, one says what all of them found.
        if os.environ.get("LOCAL_RANK", "0") == "0":
            complain(with_options(str(error)))
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if "WORLD_SIZE" in os.environ and re.search("gloo|nccl", str(error), re.IGNORECASE):
            # torchrun starts all of them again, if it may; not a person's mistake, and no bug here.
            complain("another process of this training was lost, so this one ends; what was saved can be resumed")
            sys.exit(1)
        # PyTorch has no error of its own for it on the CPU.
        if isinstance(error, RuntimeError) and not re.search("can't allocate memory|out of memory", str(error)):
            raise
        complain("there is not enough memory; a smaller --resolution, --width or --batch-size needs less")
        sys.exit(2)
    except OSError as error:
        # The disk is full, a folder may not be written: the person's machine, and theirs to mend.
        if error.strerror is None:
            raise
        complain(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)
