"""The training loop, from the plan to the finished run folder."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.utils import clip_grads_with_norm_

from convatlas import data, draw
from convatlas.data.batches import Batch, derived_seed
from convatlas.data.dataset import advice
from convatlas.errors import UserError
from convatlas.files import clear_lock, lock, write
from convatlas.formatting import percent
from convatlas.models.bounds import describe_card
from convatlas.models.device import resolve_device
from convatlas.models.evaluation import evaluate, evaluation_batches
from convatlas.models.folder import write_weights
from convatlas.models.memory import freed_memory_kept
from convatlas.runs.record import TrainingResults
from convatlas.runs.run import RECORD, Run, load_run
from convatlas.torchrun import leftover
from convatlas.training import checkpoint, optimizers
from convatlas.training.autotune import Autotuner
from convatlas.training.batch_norm import estimate_statistics, trained_batch_norms
from convatlas.training.checkpoint import CheckpointWriter, TrainState, make_ema, write_metrics
from convatlas.training.decoding import note_decoding
from convatlas.training.distribution import Processes
from convatlas.training.plan import (
    RUNS,
    SKIP_BAD,
    default_run_name,
    load_everywhere,
    new_run_folder,
    plan,
    training_batches,
)
from convatlas.training.progress import Progress
from convatlas.training.request import Request
from convatlas.training.setup import TrainingSetup
from convatlas.training.signals import Stopped, StopRequest
from convatlas.training.step import StepResult, seed_dropout, to_memory_format
from convatlas.training.validation import should_stop, split_validation, validate

NUM_NAMED = 5
"""Images that a message names."""


class Interrupted(Stopped):
    """A signal asked training to stop; its state is saved."""

    def __init__(self, run: Run, signal: int) -> None:
        super().__init__(signal, f"{run.folder} is saved")
        self.run = run


class DivergedError(UserError):
    """The loss, the gradient or the weights are no finite numbers."""


@advice(SKIP_BAD)
def train_request(request: Request, out: Path | None, progress: Progress, *, evaluate_test: bool = True) -> Run:
    """Train as `train` does, from a `Request`.

    Args:
        evaluate_test: whether to finish the run on the test images, which are read once; the trials of a sweep do not.
    """
    processes = Processes.from_env()
    data.check_outside(out or RUNS, request.data)
    with processes.process_group(resolve_device(request.runtime.device, processes.local_rank)):
        # When a process is lost, torchrun restarts all of them. Only machines that noticed the loss count the
        # restart.
        if processes.all_reduce_max(processes.restarts):
            if out is None:
                raise UserError("torchrun restarted this training, but its folder is not known; name one with `out`")
            if processes.broadcast((out / RECORD).exists):
                return _resume(load_run(out), processes, progress, evaluate_test=evaluate_test)
        planned = plan(request, processes, progress.loading)

        def create_run() -> Run:
            folder = new_run_folder(out, default_run_name(request.network, planned.record.data))
            folder.mkdir(parents=True, exist_ok=out is not None)
            run = Run(folder, planned.card, planned.record)
            with lock(folder):
                run.write()
            return run

        run = processes.broadcast(create_run)
        return _train_and_evaluate(run, planned.dataset, processes, progress, evaluate_test=evaluate_test)


def resume(
    folder: str | Path,
    *,
    data: str | Path | None = None,
    progress: Progress | None = None,
    evaluate_test: bool = True,
) -> Run:
    """Continue a run that was stopped or killed. The weights are the same as without the interruption.

    A finished run is returned as it is. With another number of processes the order of the images is the same, but the
    weights may differ by rounding.

    Args:
        data: the run's data set, by name or by folder, if it was moved. The run, also a finished one, remembers it.
        evaluate_test: see `train_request`.

    Raises:
        UserError: it is not a run folder, it is damaged, it was started with record format 1, or its images have
            changed.
    """
    run = load_run(folder)
    processes = Processes.from_env()
    with processes.process_group(resolve_device(run.record.device, processes.local_rank)):
        return _resume(run, processes, progress or Progress(), data=data, evaluate_test=evaluate_test)


def train_or_resume(request: Request, folder: Path, progress: Progress, *, evaluate_test: bool = True) -> Run:
    """The finished run of a request in this folder: trained, resumed, or as it is.

    Args:
        evaluate_test: see `train_request`.
    """
    if (folder / RECORD).exists():
        # A finished run needs no images.
        data = None if load_run(folder).is_finished else request.data
        return resume(folder, data=data, progress=progress, evaluate_test=evaluate_test)
    return train_request(request, folder, progress, evaluate_test=evaluate_test)


def _resume(
    run: Run, processes: Processes, progress: Progress, *, data: str | Path | None = None, evaluate_test: bool
) -> Run:
    if run.format_version == 1 and not run.is_finished:
        raise UserError(f"{run.folder} was started by an older convatlas and cannot be resumed; train it again")
    if data is not None or not run.is_finished:
        for line in run.followed:
            progress.say(line)
        dataset = load_everywhere(lambda: run.load_data(data, progress=progress.loading), processes)
        run.record = replace(run.record, data=dataset.name)
    if run.is_finished:
        if processes.is_main:
            # Killed at its very end, a finished run may still have its checkpoint.
            checkpoint.remove(run.folder)
            if data is not None:
                with lock(run.folder):
                    run.write()
            clear_lock(run.folder)
        return run
    if run.record.num_processes != processes.world_size:
        progress.say(
            f"started with {run.record.num_processes} and resumed with {processes.world_size} processes: "
            "the order of the images is the same, the weights may differ by rounding"
        )
    return _train_and_evaluate(run, dataset, processes, progress, evaluate_test=evaluate_test)


def _train_and_evaluate(
    run: Run, dataset: data.Dataset, processes: Processes, progress: Progress, *, evaluate_test: bool
) -> Run:
    callers_threads = torch.get_num_threads()
    if line := leftover():
        progress.say(line)
    # The caller's random state and thread count are restored. Training needs the recorded count: another one adds up in
    # another order, with other rounding.
    with (
        torch.random.fork_rng(),
        freed_memory_kept(),
        lock(run.folder) if processes.is_main else nullcontext(),
    ):
        try:
            torch.set_num_threads(run.record.execution.threads)
            setup = TrainingSetup.of(run, progress.loading)
            if note := note_decoding(run, dataset):
                progress.say(note)
            trained = _train_epochs(run, setup, dataset, processes, progress)
            metrics_sha256 = processes.broadcast(partial(write_metrics, run.folder, trained.train_state.state))
            run.record = replace(run.record, metrics_sha256=metrics_sha256)
            if evaluate_test:
                return _evaluate_and_write(run, setup, trained, dataset, processes)
            if processes.is_main:
                run.write()
            return run
        finally:
            torch.set_num_threads(callers_threads)


class _Trained(NamedTuple):
    train_state: TrainState
    batches: data.Batches
    norms: list[str]
    """Batch normalizations whose statistics are to be estimated; none if those of the best epoch are kept."""


def _train_epochs(
    run: Run, setup: TrainingSetup, dataset: data.Dataset, processes: Processes, progress: Progress
) -> _Trained:
    record, recipe, seed = run.record, run.record.recipe, run.record.seed
    device = resolve_device(record.device, processes.local_rank)
    checkpoint.check_room(run.folder, describe_card(run.card).num_bytes)
    train, val = dataset.train, None
    if record.validation is not None:
        train, val = split_validation(dataset.train, record.validation, seed, progress.loading)
    batches = training_batches(run.card, record, train, device, processes.shard)
    num_steps = recipe.epochs * len(batches)
    if not record.is_tuned and setup.is_worth_autotuning:
        tuner = Autotuner(
            lambda: setup.build(device),
            run.variant.objective,
            next(batches.epoch(0)),
            may_compile=not record.fits_head,
        )
        execution, line = processes.broadcast(lambda: tuner.choose(record.execution, num_steps))
        run.record = record = replace(record, execution=execution, is_tuned=True)
        torch.set_num_threads(execution.threads)
        if line:
            progress.say(line)
    if processes.is_main:
        run.write()
    network, optimizer = setup.build(device)
    features = setup.features(network, batches)
    if not checkpoint.exists(run.folder):
        setup.fit_head(network, batches, processes, features)
    train_state = TrainState(
        to_memory_format(network, record.execution), optimizer, make_ema(network, recipe, num_steps)
    )
    note = checkpoint.load(run.folder, train_state)
    if note:
        progress.say(note)
    state = train_state.state
    if record.fits_head and val is not None and not state.step:
        validate(train_state, run, val, device, processes)
    trained = setup.trained_part(network, batches)
    before_epoch = optimizers.before_epoch(optimizer, network, run.variant.objective, batches)
    teacher = setup.teacher(network)
    step = setup.step(trained, batches, processes, teacher)
    clock = Clock(state.seconds)
    writer = CheckpointWriter(run.folder, record.runtime.checkpoint_steps)

    def save() -> None:
        # If the weights are not finite, the checkpoint before, or the beginning, is the last good state.
        if processes.is_main and is_finite(network):
            state.seconds = clock.seconds()
            writer.begin(train_state)

    progress.begin(run, dataset, num_steps, state.step)
    if state.head_accuracy is not None and not state.step:
        progress.say(f"the head alone: validation accuracy {percent(state.head_accuracy)}")
    with StopRequest() as stop:
        try:
            while state.step < num_steps and not should_stop(state, record.validation, record.stop_at_error):
                epoch, first = divmod(state.step, len(batches))
                if first == 0:
                    before_epoch(epoch)
                trained.train()
                if setup.unfreeze(network, epoch / recipe.epochs):
                    # Other parameters are trained than before.
                    step = setup.step(trained, batches, processes, teacher)
                for batch in (features or batches).epoch(epoch, first):
                    lr = recipe.lr_at(state.step, num_steps)
                    optimizers.set_lr(optimizer, lr)
                    seed_dropout(device, derived_seed(seed, epoch, state.step, processes.rank))
                    optimizer.zero_grad(set_to_none=True)
                    result = step.gradient(batch)
                    if not result.is_finite:
                        save()
                        writer.finish()
                        place = f"step {state.step + 1} in epoch {epoch + 1}"
                        raise not_finite(run, result, place, batch, train, processes)
                    if recipe.max_norm:
                        clip_grads_with_norm_(network.parameters(), recipe.max_norm, result.norm)
                    optimizer.step()
                    if train_state.average is not None:
                        train_state.average.update_parameters(network)
                    state.step += 1
                    state.add_batch(result.loss, result.num_correct, result.num_images)
                    progress.advance(result.num_images)
                    if state.step % len(batches) == 0:
                        metrics = state.close_epoch(lr, clock.seconds())
                        if val is not None:
                            norms = trained_batch_norms(network)
                            estimate_statistics(train_state.evaluated, norms, batches, processes)
                            validate(train_state, run, val, device, processes)
                        progress.end_epoch(metrics, recipe.epochs)
                    signal = processes.all_reduce_max(stop.signal or 0)
                    if signal or writer.due(state.step):
                        save()
                    if signal:
                        writer.finish()
                        raise Interrupted(run, signal)
            if not is_finite(network):
                raise DivergedError(
                    f"the weights are not finite after the last step; {run.folder} keeps the last good state, "
                    f"and a new run with a lower learning rate than {recipe.lr:g} may help"
                )
            # What follows may be interrupted too; resume then comes straight here.
            save()
        finally:
            writer.close()
            progress.close()
        writer.finish()
    # A resumed training may come here without a step: the layers that the last epoch trained.
    trained.train()
    setup.unfreeze(network, (len(state.metrics) - 1) / recipe.epochs)
    return _Trained(train_state, batches, [] if train_state.best else trained_batch_norms(network))


def not_finite(
    run: Run, result: StepResult, place: str, batch: Batch, train: data.Split, processes: Processes
) -> DivergedError:
    """Says what is not finite, at which place of the training, and with which images."""
    is_loss = not math.isfinite(result.loss)
    indices = batch.indices[~result.losses.isfinite().cpu()] if is_loss else batch.indices
    names = [name for some in processes.all_gather([train.name_of(i) for i in indices.tolist()]) for name in some]
    more = f" and {len(names) - NUM_NAMED} others" if len(names) > NUM_NAMED else ""
    kept = "keeps the last good state" if checkpoint.exists(run.folder) else "has no checkpoint yet"
    return DivergedError(
        f"the {'loss' if is_loss else 'gradient'} is not a finite number at {place}, with "
        f"{', '.join(names[:NUM_NAMED])}{more}; {run.folder} {kept}, "
        f"and a new run with a lower learning rate than {run.record.recipe.lr:g} may help"
    )


def _evaluate_and_write(
    run: Run, setup: TrainingSetup, trained: _Trained, dataset: data.Dataset, processes: Processes
) -> Run:
    """Evaluate on the test images once, and write weights, results and plots. If killed, `resume` does it again."""
    record, card, train_state = run.record, run.card, trained.train_state
    state, network = train_state.state, train_state.evaluated
    if train_state.best:
        network.load_state_dict(train_state.best)
    if setup.constrained is not None:
        setup.constrained.detach(network)
    processes.sync_state(network)
    estimate_statistics(network, trained.norms, trained.batches, processes)
    device = resolve_device(record.device, processes.local_rank)
    batches = evaluation_batches(card, dataset.test, device, processes.shard)
    evaluation = evaluate(network, run.variant.objective, batches, processes.all_reduce_sum)
    if processes.is_main:
        title = f"{card.variant} on {Path(dataset.name).name}"
        write(run.folder / "curves.svg", draw.training_curves(title, state.metrics))
        accuracy = f"{100 * evaluation.accuracy:.2f} % of {evaluation.num_images:,} test images"
        write(
            run.folder / "confusion.svg",
            draw.confusion_matrix(f"{title}\n{accuracy}", card.classes, evaluation.confusion.numpy()),
        )
        results = TrainingResults(
            train_images=len(dataset.train),
            skipped_images=len(dataset.skipped),
            unused_files=len(dataset.unused),
            epochs=len(state.metrics),
            best_epoch=state.best_epoch if train_state.best else None,
            seconds=round(state.seconds, 3),
        )
        run.card = replace(card, score=evaluation.score, weights_sha256=write_weights(run.folder, network))
        run.record = replace(record, results=results)
        run.write()
        checkpoint.remove(run.folder)
    run.card, run.record = processes.broadcast(lambda: (run.card, run.record))
    return run


def is_finite(network: nn.Module) -> bool:
    """Whether all weights and batch-norm statistics are finite numbers."""
    return all(bool(value.isfinite().all()) for value in network.state_dict().values())


class Clock:
    """Seconds of training, those before an interruption included."""

    def __init__(self, before: float) -> None:
        self._start = time.monotonic() - before

    def seconds(self) -> float:
        return time.monotonic() - self._start
