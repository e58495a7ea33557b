"""A sweep: the same training with other values, compared by validation accuracy, and the best trained on all images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convatlas.data import check_outside, portable_name
from convatlas.data import find as find_data
from convatlas.errors import UserError, check_same, unknown
from convatlas.files import lock
from convatlas.runs.options import Validation
from convatlas.runs.run import RECORD, Run, read_metrics
from convatlas.spec import Scale
from convatlas.training.loop import train_or_resume
from convatlas.training.plan import TRIALS, default_run_name, new_run_folder
from convatlas.training.progress import Progress
from convatlas.training.request import Request

if TYPE_CHECKING:
    import optuna

SWEPT: Mapping[str, type[int] | type[float]] = {
    "lr": float, "batch_size": int, "epochs": int, "width": float, "depth": float, "resolution": int, "phi": float,
}  # fmt: skip
"""What can be varied: numbers of a `Request`, and of its `Scale`."""
SCALED = {field.name for field in fields(Scale)}
STUDY = "study.db"
ASKED, GRID_ID = "request", "grid_id"
"""The attributes that say what a study trains, and, by Optuna's own name, of which combination a trial is."""


def sweep(
    request: Request,
    grid: Mapping[str, Sequence[float]],
    *,
    out: str | Path,
    storage: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Train with every combination of values, and return the run of the best on all training images.

    Combinations are compared by their best epoch on validation images; the test images are read only by the returned
    run. After a kill, the same sweep continues where it was.

    Args:
        grid: for each name of `SWEPT`, its values.
        out: the folder of the returned run; the trials and the study lie in `trials` there.
        storage: the URL of an Optuna storage (a database) that several machines share; None: a file in `out`.
        progress: an object whose methods are called while the trials run; see `train`.

    Raises:
        UserError: a name or a value cannot be varied, the folder holds something else, no combination could be trained,
            or other machines still train.
    """
    library = _optuna()
    check_outside(out, request.data)
    out, progress = Path(out), progress or Progress()
    trials = out / TRIALS
    if (out / STUDY).is_file():
        raise UserError(f"{out} holds a sweep of an earlier convatlas, its run in {out / 'best'}; choose a new folder")
    if not trials.is_dir():
        new_run_folder(out, default_run_name(request.network, request.data))
        trials.mkdir(parents=True)
    # Only a storage that was named is shared with other machines.
    alone = storage is None
    with lock(trials) if alone else nullcontext():
        study = library.create_study(
            study_name=out.resolve().name,
            storage=storage or f"sqlite:///{trials / STUDY}",
            sampler=library.samplers.GridSampler(dict(grid), seed=0),
            direction="maximize",
            load_if_exists=True,
        )
        check_request(out, study, request, grid)
        requeue(study, alone=alone)
        validated = replace(request, validation=request.validation or Validation())
        num_trials = math.prod(map(len, grid.values()))

        def accuracy(trial: optuna.trial.Trial) -> float:
            values: dict[str, Any] = {name: trial.suggest_categorical(name, list(grid[name])) for name in grid}
            folder = trials / "-".join(f"{name}={value:g}" for name, value in values.items())
            progress.say(f"trial {len(finished(study)) + 1} of {num_trials}: {folder.name}")
            try:
                run = train_or_resume(varied(validated, values), folder, progress, evaluate_test=False)
            except UserError as error:
                progress.say(f"{folder.name} is left out: {error}")
                raise library.TrialPruned from error
            return best_accuracy(run)

        if len(finished(study)) < num_trials and (out / RECORD).exists():
            raise UserError(f"{out} holds a run already, and its sweep is not done; choose a new folder with `out`")
        while len(finished(study)) + (0 if alone else num_running(study)) < num_trials:
            study.optimize(accuracy, n_trials=1)
    if len(finished(study)) < num_trials:
        raise UserError(f"other machines still train for the study {out.name}; repeat the command when they are done")
    if not any(trial.state == library.trial.TrialState.COMPLETE for trial in finished(study)):
        raise UserError(f"no combination of {', '.join(grid)} could be trained")
    values: dict[str, Any] = study.best_params
    progress.say(
        f"best: {', '.join(f'{name}={value:g}' for name, value in values.items())} "
        f"({100 * study.best_value:.2f} % validation accuracy); once more on all training images"
    )
    return train_or_resume(varied(request, values), out, progress)


def check_request(out: Path, study: optuna.Study, request: Request, grid: Mapping[str, Sequence[float]]) -> None:
    """Record in a study what is trained, or compare it with what is recorded there.

    Raises:
        UserError: the study is of another request, or of other values.
    """
    # Where the images lie, and on which device they are computed, changes no result.
    names = [field.name for field in fields(Request) if field.name not in ("data", "runtime")]
    asked = {"data": portable_name(find_data(request.data).name)}
    asked |= {name: str(getattr(request, name)) for name in names} | {"sweep": str(dict(grid))}
    if ASKED not in study.user_attrs:
        study.set_user_attr(ASKED, asked)
    check_same(out, study.user_attrs[ASKED], asked)


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


def requeue(study: optuna.Study, *, alone: bool) -> None:
    """Queue the trials again that a signal or a kill ended.

    Args:
        alone: whether no other machine works for the study: what runs by its account was killed.
    """
    from optuna.trial import TrialState, create_trial

    ended = (TrialState.FAIL, TrialState.RUNNING) if alone else (TrialState.FAIL,)
    trials = study.get_trials(deepcopy=False)
    known = {trial.system_attrs.get(GRID_ID) for trial in trials if trial.state not in ended} | {None}
    for trial in trials:
        if (combination := trial.system_attrs.get(GRID_ID)) not in known:
            study.add_trial(create_trial(state=TrialState.WAITING, system_attrs=trial.system_attrs))
            known.add(combination)


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials of combinations that were trained, or that cannot be."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def num_running(study: optuna.Study) -> int:
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def best_accuracy(run: Run) -> float:
    """The validation accuracy of the best epoch."""
    return max(float(row["val_accuracy"]) for row in read_metrics(run))


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UserError("a sweep needs Optuna: pip install 'convatlas[sweep]'") from error
    # It would print the traceback of a trial that a signal ended.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
