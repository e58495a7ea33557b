"""A sweep: the same training with other values, compared by validation accuracy, and the best trained on all images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convatlas.data import check_outside, portable_name
from convatlas.data import find as find_data
from convatlas.errors import UserError, check_same, unknown
from convatlas.files import LockedError, lock
from convatlas.models.device import resolve_device
from convatlas.runs.options import Validation
from convatlas.runs.run import RECORD, Run, read_metrics
from convatlas.spec import Scale
from convatlas.torchrun import Worker
from convatlas.training.loop import Interrupted, train_or_resume
from convatlas.training.plan import TRIALS, default_run_name, new_run_folder
from convatlas.training.progress import Progress
from convatlas.training.request import Request
from convatlas.training.signals import Stopped, StopRequest

if TYPE_CHECKING:
    from convatlas.training.study import Lease, Study

SWEPT: Mapping[str, type[int] | type[float]] = {
    "lr": float, "batch_size": int, "epochs": int, "width": float, "depth": float, "resolution": int, "phi": float,
}  # fmt: skip
"""What can be varied: numbers of a `Request`, and of its `Scale`."""
SCALED = {field.name for field in fields(Scale)}
STUDY = "study.db"
ASKED = "request"
"""The attribute that says what a study trains."""
LOST_AFTER_S = 30
POLL_S = 1.0
"""How often a worker looks whether what it waits for is done."""


def sweep(
    request: Request,
    grid: Mapping[str, Sequence[float]],
    *,
    out: str | Path,
    storage: str | None = None,
    lost_after_s: float = LOST_AFTER_S,
    progress: Progress | None = None,
) -> Run:
    """Train with every combination of values, and return the run of the best on all training images.

    Combinations are compared by their best epoch on validation images, the first of equal ones is the best; the test
    images are read only by the returned run. After a kill, the same sweep continues where it was.

    With a storage, several workers, which give the same request, share the combinations. Each waits in the end for what
    the others train, takes up what a lost one leaves, and returns the run of the same combination.

    Args:
        grid: for each name of `SWEPT`, its values.
        out: the folder of the returned run; the trials and the study lie in `trials` there. Workers may share it or
            have one each, of the same name.
        storage: the URL of a database, as Optuna takes it; None: a file in `out`, for one worker.
        lost_after_s: seconds without a sign of life after which another worker counts as lost.
        progress: an object whose methods are called while the trials run; see `train`.

    Raises:
        UserError: a name or a value cannot be varied, the folder holds something else, the storage cannot be used, or
            no combination could be trained.
        Stopped: Ctrl-C or SIGTERM came; what was trained is kept, and the same sweep continues.
    """
    if find_spec("optuna") is None:
        raise UserError("a sweep needs Optuna: pip install 'convatlas[sweep]'")
    from convatlas.training.storage import file_url, make_file, opened_storage
    from convatlas.training.study import Study

    if Worker.from_env().world_size > 1:
        raise UserError("a sweep trains with one process; start it once for each device, without torchrun")
    check_outside(out, request.data)
    # Otherwise a machine without it would leave out every combination, for all.
    resolve_device(request.runtime.device)
    out, progress = Path(out), progress or Progress()
    trials = out / TRIALS
    if (out / STUDY).is_file():
        raise UserError(f"{out} holds a sweep of an earlier convatlas, its run in {out / 'best'}; choose a new folder")
    if not trials.is_dir():
        new_run_folder(out, default_run_name(request.network, request.data))
    # Only a storage that was named is shared with other workers.
    alone = storage is None
    with ExitStack() as opened:
        if storage is None:
            opened.enter_context(lock(trials))
            make_file(trials / STUDY)
            storage = file_url(trials / STUDY)
        database = opened.enter_context(opened_storage(storage))
        study = Study(database, out.resolve().name, grid, lost_after_s=lost_after_s)
        check_request(out, study, request, grid)
        if not study.is_done() and (out / RECORD).exists():
            raise UserError(f"{out} holds a run already, and its sweep is not done; choose a new folder with `out`")
        if alone:
            study.free_all()
        validated = replace(request, validation=request.validation or Validation())
        mine = set()
        while not study.is_done():
            if lease := study.claim():
                mine.add(lease.place)
                run_trial(study, lease, validated, trials, progress)
            else:
                wait_for_others(study, progress)
        accuracies, left_out = study.accuracies(), study.left_out()
    for place in left_out.keys() - mine:
        progress.say(f"{name_of(study.combinations[place])} is left out: {left_out[place]}")
    if not accuracies:
        raise UserError(f"no combination of {', '.join(grid)} could be trained")
    best = max(accuracies, key=lambda place: (accuracies[place], -place))
    values = study.combinations[best]
    progress.say(
        f"best: {', '.join(f'{name}={short(value)}' for name, value in values.items())} "
        f"({100 * accuracies[best]:.2f} % validation accuracy); once more on all training images"
    )

    def train_best() -> Run:
        with lock(trials):
            return train_or_resume(varied(request, values), out, progress)

    return in_turn(train_best, progress)


def run_trial(study: Study, lease: Lease, request: Request, trials: Path, progress: Progress) -> None:
    """Train a combination to its end, or leave it out if it cannot be trained.

    Raises:
        UserError: the images are not those of the other workers.
        Stopped: Ctrl-C or SIGTERM came; the combination is free again.
    """
    values = study.combinations[lease.place]
    folder = trials / name_of(values)
    progress.say(f"trial {lease.place + 1} of {len(study.combinations)}: {folder.name}")

    def train() -> Run:
        return train_or_resume(varied(request, values), folder, progress, evaluate_test=False)

    try:
        with lease.heartbeats():
            try:
                run = in_turn(train, progress)
            except UserError as error:
                progress.say(f"{folder.name} is left out: {error}")
                lease.leave_out(str(error))
                return
            accuracy, data = best_accuracy(run), run.card.provenance.data_checksum
            if study.data() - {data}:
                raise UserError(f"{request.data} holds other images here than where other trials were trained")
            lease.complete(accuracy, data)
    except Interrupted as stop:
        lease.give_up()
        # The run of a trial is not to be resumed by itself.
        raise Stopped(stop.signal, f"the trials in {trials} are saved") from stop
    except BaseException:
        lease.give_up()
        raise


def wait_for_others(study: Study, progress: Progress) -> None:
    """Wait until a combination is free, or nobody trains any more.

    Raises:
        Stopped: Ctrl-C or SIGTERM came.
    """
    said: set[tuple[int, str]] = set()
    with StopRequest() as stop:
        while (awaited := study.free_lost()) and not study.free():
            if new := {(one.place, one.worker) for one in awaited} - said:
                said |= new
                others = " and ".join(
                    f"{name_of(study.combinations[one.place])} on {one.worker}, seen {one.silence_s:.0f} s ago"
                    for one in awaited
                )
                progress.say(f"waiting for {others}; a worker counts as lost after {study.lost_after_s:g} s")
            pause(stop)


def in_turn(train: Callable[[], Run], progress: Progress) -> Run:
    """Train as soon as no other process writes to the same folder.

    Raises:
        Stopped: Ctrl-C or SIGTERM came while waiting.
    """
    said = False
    while True:
        try:
            return train()
        except LockedError as error:
            if not said:
                progress.say(f"waiting: {error}")
            said = True
        with StopRequest() as stop:
            pause(stop)


def pause(stop: StopRequest) -> None:
    """Sleep until it is time to look again.

    Raises:
        Stopped: a signal came.
    """
    end = time.monotonic() + POLL_S
    while stop.signal is None and time.monotonic() < end:
        time.sleep(POLL_S / 10)
    if stop.signal is not None:
        raise Stopped(stop.signal, "stopped while waiting for another process")


def name_of(values: Mapping[str, float]) -> str:
    """Of a trial's folder."""
    return "-".join(f"{name}={short(value)}" for name, value in values.items())


def short(value: float) -> str:
    """As few digits as tell it from every other number."""
    return text if float(text := f"{value:g}") == value else repr(value)


def check_request(out: Path, study: Study, request: Request, grid: Mapping[str, Sequence[float]]) -> None:
    """Record in a study what is trained, or compare it with what is recorded there.

    Raises:
        UserError: the study is of another request, or of other values.
    """
    # Where the images lie, and on which device they are computed, changes no result.
    names = [field.name for field in fields(Request) if field.name not in ("data", "runtime")]
    asked = {"data": portable_name(find_data(request.data).name)}
    asked |= {name: str(getattr(request, name)) for name in names} | {"sweep": str(dict(grid))}
    if ASKED not in study.optuna.user_attrs:
        study.optuna.set_user_attr(ASKED, asked)
    check_same(out, study.optuna.user_attrs[ASKED], asked)


def varied(request: Request, values: Mapping[str, Any]) -> Request:
    """The request with other values for names of `SWEPT`."""
    of_scale = {name: value for name, value in values.items() if name in SCALED}
    others = {name: value for name, value in values.items() if name not in SCALED}
    return replace(request, scale=replace(request.scale, **of_scale), **others)


def parsed(words: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """The values of each name, from words such as "lr=1e-3,3e-3".

    Raises:
        UserError: a word is not such a list, or names nothing that can be varied.
    """
    grid: dict[str, tuple[float, ...]] = {}
    for word in words:
        name, _, values = word.partition("=")
        name = name.replace("-", "_")
        if name not in SWEPT:
            raise unknown("number to sweep", name, list(SWEPT))
        try:
            grid[name] = tuple(SWEPT[name](value) for value in values.split(","))
        except ValueError as error:
            raise UserError(f"{word!r} is not a list of values to sweep; write it as lr=1e-3,3e-3,1e-2") from error
    return grid


def best_accuracy(run: Run) -> float:
    """The validation accuracy of the best epoch."""
    return max(float(row["val_accuracy"]) for row in read_metrics(run))
