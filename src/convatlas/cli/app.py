"""The commands, and how errors end them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Annotated

import typer
from typer.main import get_command

import convatlas
from convatlas.cli.atlas import compare, list_variants, show
from convatlas.cli.cache import cache
from convatlas.cli.claims import claims
from convatlas.cli.compression import compress, unpack, update
from convatlas.cli.console import print_error, print_line
from convatlas.cli.deployment import bench, export
from convatlas.cli.experiment import experiment
from convatlas.cli.museum import museum
from convatlas.cli.signals import Signaled, end_on_signal, last_words, raise_on_signal, stopped_by
from convatlas.cli.streams import prepare_streams
from convatlas.cli.training import find_lr, resume, train
from convatlas.cli.use import evaluate, predict, report
from convatlas.cli.weights import import_checkpoint, weights
from convatlas.errors import UserError
from convatlas.torchrun import Worker

VERBS: dict[str, Callable[..., None]] = {
    "list": list_variants,
    "show": show,
    "compare": compare,
    "claims": claims,
    "weights": weights,
    "import": import_checkpoint,
    "train": train,
    "resume": resume,
    "find-lr": find_lr,
    "evaluate": evaluate,
    "report": report,
    "predict": predict,
    "compress": compress,
    "export": export,
    "bench": bench,
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
app.add_typer(museum, name="museum")
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


SMALLER = ("--resolution", "--width", "--batch-size")
"""Options that make a training fit into less memory."""


def options_of(words: Sequence[str]) -> set[str]:
    """The options of the command that these words call."""
    command = get_command(app)
    for word in words:
        inner = getattr(command, "commands", {})
        if word not in inner:
            break
        command = inner[word]
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def with_options(message: str, known: Collection[str]) -> str:
    """A library's message with the command's options in place of argument names, which stand in backticks.

    Args:
        known: the options that the command has. A name of none of them stays a word: nobody is told to type it.
    """

    return re.sub(r"`(\w+)`", lambda name: typed if (typed := option_of(name[1])) in known else name[1], message)


def option_of(argument: str) -> str:
    """The option that is called by an argument's name."""
    return OPTIONS.get(argument, f"--{argument.replace('_', '-')}")


def not_enough_memory(known: Collection[str]) -> str:
    """What to do about it, with the options that the command has."""
    smaller = " or ".join(option for option in SMALLER if option in known)
    return f"not enough memory; {f'choose a smaller {smaller}' if smaller else 'close other programs'}"


def run_command() -> None:
    """Run the command. A mistake is one line on standard error and exit status 2; a bug keeps its traceback."""
    # PyTorch's threads wait for one another by spinning. Beside another busy program, the one they wait for gets no
    # core, and training takes several times as long; a shorter spin costs nothing otherwise. Read when torch loads.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # What a notebook or a desktop sets may not be installed here, and the command draws into files only. Read when
    # matplotlib loads.
    os.environ.pop("MPLBACKEND", None)
    prepare_streams()
    is_main = Worker.from_env().is_main
    try:
        raise_on_signal(silently=not is_main)
        try:
            status = app(standalone_mode=False)
        finally:
            # What is left is the message, and Python's own end.
            end_on_signal(silently=not is_main)
    except Signaled as stop:
        with last_words():
            if is_main:
                print_error(stopped_by(stop.signal))
        sys.exit(128 + stop.signal)
    except typer.TyperException as error:
        # Without a command there is no message: the help has been printed.
        if message := error.format_message():
            print_error(" ".join(message.split()))
        sys.exit(2)
    except UserError as error:
        print_error(with_options(str(error), options_of(sys.argv[1:])))
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if Worker.from_env().world_size > 1 and re.search("gloo|nccl", str(error), re.IGNORECASE):
            # torchrun restarts all of them, if it may; neither a user's mistake nor a bug.
            print_error("another process of this training was lost, so this one stops; resume from the last checkpoint")
            sys.exit(1)
        # On the CPU, PyTorch has no exception of its own for running out of memory.
        if isinstance(error, RuntimeError) and not re.search("can't allocate memory|out of memory", str(error)):
            raise
        print_error(not_enough_memory(options_of(sys.argv[1:])))
        sys.exit(2)
    except OSError as error:
        # As a full disk, or a folder that may not be written to.
        if error.strerror is None:
            raise
        print_error(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)
