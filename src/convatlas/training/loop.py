"""The training loop, from the plan to the finished run folder."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import clip_grads_with_norm_

from convatlas import data, draw, measure
from convatlas.data.batches import Batch, derived_seed
from convatlas.errors import UserError
from convatlas.files import lock, write
from convatlas.recipe import Distillation, Recipe
from convatlas.runs import METRICS, Results, Run, device_named, evaluate, load
from convatlas.runs.run import RECORD
from convatlas.spec import Spec
from convatlas.training import checkpoint, optimizers, plan
from convatlas.training.autotune import Autotuner
from convatlas.training.checkpoint import Learner, Writer, average_of
from convatlas.training.distribution import Processes
from convatlas.training.fine_tuning import TrainingSetup
from convatlas.training.plan import Request
from convatlas.training.progress import Progress
from convatlas.training.signals import Stopped, StopRequest
from convatlas.training.step import StepResult, arranged
from convatlas.training.validation import should_stop, split_validation, validate

NAMED = 5
"""Images that a message names."""


class Interrupted(Stopped):
    """Training was asked to stop by a signal; its state is saved."""

    def __init__(self, run: Run, signal: int) -> None:
        super().__init__(signal, f"{run.folder} is saved")
        self.run = run


def train(
    network: str,
    *,
    spec: Spec | None = None,
    data: str | Path = "digits",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    width: float = 1.0,
    depth: float = 1.0,
    resolution: int | None = None,
    phi: float = 0.0,
    recipe: str | Recipe = "default",
    micro_batch: int | None = None,
    balance: bool = False,
    hold_out: bool = False,
    patience: int | None = None,
    start: str | Path | None = None,
    freeze: bool = False,
    distillation: Distillation | None = None,
    device: str | None = None,
    autotune: bool = True,
    checkpoint_steps: int | None = None,
    out: str | Path | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Train a network of the atlas on a data set and leave a run folder.

    Under torchrun, its processes train together, each on its shard of every batch.

    Args:
        network: a variant's name, as "lenet5".
        spec: in place of the variant's own, and of its family; its classes and channels are taken from the data.
        data: the name of a standard set, a folder of images, or "hf:NAME" for a set that is streamed.
        epochs, batch_size, lr: in place of the recipe's own.
        seed: of the weights, the order, the changes of images and the split of a folder that has none.
        width, depth, resolution, phi: see `create`. Without a resolution, the images' own size is used where the
            network takes it, and phi scales that.
        recipe: "default", or "paper" for the one that the network's paper prints, or one of your own.
        micro_batch: images whose gradients are computed at once, where a batch would not fit into memory.
        balance: let each class weigh the same, however many images it has.
        hold_out: hold out a seeded tenth of the training images, and keep the weights of the epoch that does best
            on it.
        patience: stop after so many epochs that did no better on what is held out.
        start: a run folder, or a file of weights, of the same network: training begins from its weights under a new
            head. The head learns first, then one part after another below it, at smaller rates.
        freeze: train the head alone, on features that are computed once; the images are not changed at random.
        distillation: learn the answers of a trained network too, of any family.
        device: "cpu", "cuda" or "mps"; without it, the fastest that is there.
        autotune: measure first which way of computing is fastest here.
        checkpoint_steps: write a checkpoint also every so many steps, beside those by time.
        out: the run folder, new or empty; without it a new one under `runs/`.
        skip_bad: leave out images that cannot be used.
        progress: who watches.

    Raises:
        UserError: something in the arguments or the images cannot work; it says what.
        Interrupted: Ctrl-C or SIGTERM came; the state is saved and `resume` goes on.
    """
    request = Request(
        network=network,
        spec=spec,
        data=data,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        width=width,
        depth=depth,
        resolution=resolution,
        phi=phi,
        recipe=recipe,
        micro_batch=micro_batch,
        balance=balance,
        hold_out=hold_out,
        patience=patience,
        start=start,
        freeze=freeze,
        distillation=distillation,
        device=device,
        autotune=autotune,
        checkpoint_steps=checkpoint_steps,
        skip_bad=skip_bad,
    )
    return train_as(request, None if out is None else Path(out), progress or Progress())


def train_as(request: Request, out: Path | None, progress: Progress, *, tested: bool = True) -> Run:
    """Do what `train` does with the same arguments as data.

    Args:
        tested: whether to finish the run on the test images, which are read once; a trial is not.
    """
    processes = Processes.started()
    with processes.joined(device_named(request.device, processes.local_rank)):
        # After one was lost, torchrun gives the same command again to all of them. It counts that on the machine where
        # it was lost, and on another one only if it was lost there too, as that machine saw it.
        if processes.all_reduce_max(processes.restarts):
            if out is None:
                raise UserError("torchrun starts this training again and cannot tell its folder; name one with --out")
            if processes.broadcast((out / RECORD).exists):
                return _resumed(load(out), processes, progress, tested=tested)
        record, images = plan.planned(request, processes, progress.loading)

        def founded() -> Run:
            folder = plan.vacant(out, plan.name_for(record.variant, record.data))
            folder.mkdir(parents=True, exist_ok=out is not None)
            run = Run(folder, record)
            with lock(folder):
                run.write_record()
            return run

        return _fit(processes.broadcast(founded), images, processes, progress, tested=tested)


def resume(folder: str | Path, *, progress: Progress | None = None, tested: bool = True) -> Run:
    """Go on with a run that was stopped or killed, to the same weights as if it never had been.

    A finished run is returned as it is. With another number of processes the order of the images is the same, but
    the bits may differ.

    Args:
        tested: see `train_as`.

    Raises:
        UserError: it is no run folder, it is damaged, an older convatlas began it and did not end it, or its images
            have changed.
    """
    run = load(folder)
    processes = Processes.started()
    with processes.joined(device_named(run.record.device, processes.local_rank)):
        return _resumed(run, processes, progress or Progress(), tested=tested)


def finish(request: Request, folder: Path, progress: Progress, *, tested: bool = True) -> Run:
    """The finished run of what is asked for in this folder: begun there, gone on with, or as it is.

    Args:
        tested: see `train_as`.
    """
    if (folder / RECORD).exists():
        return resume(folder, progress=progress, tested=tested)
    return train_as(request, folder, progress, tested=tested)


def _resumed(run: Run, processes: Processes, progress: Progress, *, tested: bool) -> Run:
    if run.record.results is not None:
        # Killed at its very end, a finished run may still have its checkpoint.
        if processes.main:
            checkpoint.remove(run.folder)
        return run
    if not run.record.resumable:
        raise UserError(f"{run.folder} was begun by an older convatlas and cannot be resumed; train it again")
    images = processes.main_first(lambda: run.load_data(progress.loading))
    if run.record.processes != processes.num:
        progress.say(
            f"begun by {run.record.processes} and resumed by {processes.num} processes: "
            "the order of the images is the same, the bits of the weights may differ"
        )
    return _fit(run, images, processes, progress, tested=tested)


def _fit(run: Run, images: data.Dataset, processes: Processes, progress: Progress, *, tested: bool) -> Run:
    record = run.record
    callers_threads = torch.get_num_threads()
    # The random numbers of whoever called us are theirs, and so are the threads: another number of them adds up in
    # another order, and so to other bits.
    with torch.random.fork_rng(), lock(run.folder) if processes.main else nullcontext():
        try:
            torch.set_num_threads(record.execution.threads)
            lesson = TrainingSetup.of(run)
            learner = _learn(run, lesson, images, processes, progress)
            return _finish(run, lesson, learner, images, processes) if tested else run
        finally:
            torch.set_num_threads(callers_threads)


def _learn(run: Run, lesson: TrainingSetup, images: data.Dataset, processes: Processes, progress: Progress) -> Learner:
    record, recipe, seed = run.record, run.record.recipe, run.record.seed
    device = device_named(record.device, processes.local_rank)
    train, held_out = images.train, None
    if record.hold_out:
        train, held_out = split_validation(images.train, seed, progress.loading)
    batches = plan.batches(record, train, device, processes.shard)
    num_steps = recipe.epochs * len(batches)
    if not record.autotuned and lesson.measurable:
        tuner = Autotuner(lambda: lesson.begun(device), run.variant.objective, next(batches.epoch(0)))
        execution, line = processes.broadcast(lambda: tuner.choose(record.execution, num_steps))
        run.record = record = replace(record, execution=execution, autotuned=True)
        torch.set_num_threads(execution.threads)
        if line:
            progress.say(line)
    if processes.main:
        run.write_record()
    network, optimizer = lesson.begun(device)
    learner = Learner(arranged(network, record.execution), optimizer, average_of(network, recipe, num_steps))
    note = checkpoint.load(run.folder, learner)
    if note:
        progress.say(note)
    state = learner.state
    learning, shown = lesson.learning(network, batches)

    teacher = lesson.teacher(network)
    step = lesson.step(learning, batches, processes, teacher)
    clock = Clock(state.seconds)
    writer = Writer(run.folder, record.checkpoint_steps)

    def save() -> None:
        # Where the weights are no numbers, the checkpoint before, or the beginning, is the last good state.
        if processes.main and finite(network):
            state.seconds = clock.seconds()
            writer.begin(learner)

    progress.begin(run, images, num_steps, state.step)
    with StopRequest() as stop:
        try:
            while state.step < num_steps and not should_stop(state, record.patience):
                epoch, first = divmod(state.step, len(batches))
                if isinstance(optimizer, optimizers.DiagonalLevenbergMarquardt) and first == 0:
                    sample = batches.sample(epoch, optimizer.NUM_IMAGES)
                    optimizer.estimate(network, run.variant.objective, sample.inputs, sample.targets)
                learning.train()
                if lesson.thawed(network, epoch / recipe.epochs):
                    # Other parameters learn than before.
                    step = lesson.step(learning, batches, processes, teacher)
                for batch in shown.epoch(epoch, first):
                    rate = recipe.rate(state.step, num_steps)
                    optimizers.set_rate(optimizer, rate)
                    seed_draws(device, derived_seed(seed, epoch, state.step, processes.rank))
                    optimizer.zero_grad(set_to_none=True)
                    told = step.gradient(batch)
                    if not told.finite:
                        save()
                        writer.finish()
                        raise not_finite(run, told, state.step, len(batches), batch, train, processes)
                    if recipe.max_norm:
                        clip_grads_with_norm_(network.parameters(), recipe.max_norm, told.norm)
                    optimizer.step()
                    if learner.average is not None:
                        learner.average.update_parameters(network)
                    state.step += 1
                    state.tally(told.loss, told.right, told.num)
                    progress.advance(told.num)
                    if state.step % len(batches) == 0:
                        metrics = state.close_epoch(rate, clock.seconds())
                        if held_out is not None:
                            validate(learner, run, held_out, device, processes)
                        progress.epoch(metrics, recipe.epochs)
                    signal = processes.all_reduce_max(stop.signal or 0)
                    if signal or writer.due(state.step):
                        save()
                    if signal:
                        writer.finish()
                        raise Interrupted(run, signal)
            if not finite(network):
                raise UserError(
                    f"the weights left the range of numbers at the last step; {run.folder} keeps the last good state, "
                    f"and a new run with a lower --lr than {recipe.lr:g} may help"
                )
            # What follows may be interrupted too; resume then comes straight here.
            save()
        finally:
            writer.close()
            progress.close()
        writer.finish()
    return learner


def not_finite(
    run: Run, told: StepResult, step: int, steps_per_epoch: int, batch: Batch, train: data.Split, processes: Processes
) -> UserError:
    """Say what left the range of numbers, where, and in which images."""
    lost = not math.isfinite(told.loss)
    odd = batch.indices[~told.losses.isfinite().cpu()] if lost else batch.indices
    names = [name for some in processes.all_gather([train.name_of(i) for i in odd.tolist()]) for name in some]
    shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} others" if len(names) > NAMED else "")
    kept = "keeps the last good state" if checkpoint.exists(run.folder) else "can only begin again"
    return UserError(
        f"the {'loss' if lost else 'gradient'} is not a number at step {step + 1} in epoch "
        f"{step // steps_per_epoch + 1}, with {shown}; {run.folder} {kept}, "
        f"and a new run with a lower --lr than {run.record.recipe.lr:g} may help"
    )


def _finish(run: Run, lesson: TrainingSetup, learner: Learner, images: data.Dataset, processes: Processes) -> Run:
    """Read the test images once, and write what stays of the run. Killed here, `resume` does it again."""
    record, state, network = run.record, learner.state, learner.judged
    if learner.best:
        network.load_state_dict(learner.best)
    if lesson.ties is not None:
        lesson.ties.settle(network)
    processes.sync_state(network)
    device = device_named(record.device, processes.local_rank)
    batches = run.judging(images.test, device, processes.shard)
    evaluation = evaluate(network, run.variant.objective, batches, processes.sum)
    if processes.main:
        cost = measure.cost_of(run.variant.network, record.spec)
        title = f"{record.variant} on {Path(images.name).name}"
        write(run.folder / METRICS, checkpoint.lines(state))
        write(run.folder / "curves.svg", draw.curves(title, state.metrics))
        accuracy = f"{100 * evaluation.accuracy:.2f} % of {evaluation.num_images:,} test images"
        write(
            run.folder / "confusion.svg",
            draw.confusion(f"{title}\n{accuracy}", record.classes, evaluation.confusion.numpy()),
        )
        results = Results(
            test_accuracy=evaluation.accuracy,
            test_interval=evaluation.interval,
            test_errors=evaluation.num_errors,
            test_images=evaluation.num_images,
            train_images=len(images.train),
            skipped_images=len(images.skipped),
            epochs=len(state.metrics),
            best_epoch=state.best_epoch or None,
            seconds=round(state.seconds, 3),
            params=cost.params,
            macs=cost.macs,
            weights_sha256=run.write_weights(network),
        )
        run.record = replace(record, results=results)
        run.write_record()
        checkpoint.remove(run.folder)
    run.record = processes.broadcast(lambda: run.record)
    return run


def seed_draws(device: torch.device, seed: int) -> None:
    """Make what a network draws at random (dropout) a function of the step, as the batch is.

    Of the device alone: torch.manual_seed asks every kind of device, which takes a twentieth of a small network's step.
    """
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def finite(network: nn.Module) -> bool:
    """Whether all weights, and all that normalization has seen, are numbers."""
    return all(bool(value.isfinite().all()) for value in network.state_dict().values())


class Clock:
    """Seconds of training, those before an interruption included."""

    def __init__(self, before: float) -> None:
        self._start = time.monotonic() - before

    def seconds(self) -> float:
        return time.monotonic() - self._start
