"""The training loop, from the plan to the finished run folder."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
import torch.nn.functional as F

from convatlas import atlas, data, draw, measure
from convatlas.data import find as find_data
from convatlas.data.batches import derived_seed
from convatlas.errors import UserError
from convatlas.files import lock, write
from convatlas.pictures import Preprocessing
from convatlas.pictures.ink import span
from convatlas.runs import CHECKPOINT, METRICS, Record, Results, Run, evaluate, load
from convatlas.runs.run import EVALUATION_BATCH, RECORD
from convatlas.spec import Recipe, Variant
from convatlas.training import checkpoint, optimisers, recipes
from convatlas.training.progress import Progress
from convatlas.training.signals import StopRequest


class Interrupted(Exception):  # noqa: N818  # not an error: the person asked for it
    """Training was asked to stop by a signal; its state is saved."""

    def __init__(self, run: Run, signal: int) -> None:
        super().__init__(f"{run.folder} is saved")
        self.run = run
        self.signal = signal


def train(
    network: str,
    *,
    data: str | Path = "digits",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    width: float = 1.0,
    depth: float = 1.0,
    resolution: int | None = None,
    phi: float = 0.0,
    recipe: str = "default",
    device: str | None = None,
    out: str | Path | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Train a network of the atlas on a data set and leave a run folder.

    Args:
        network: a variant's name, as "lenet5".
        data: the name of a standard set, or a folder of pictures.
        epochs, batch_size, lr: in place of the recipe's own.
        seed: of the weights, the order, the changes of pictures and the split of a folder that has none.
        width, depth, resolution, phi: see `create`. Without a resolution, the pictures' own size is used where the
            network takes it, and phi scales that.
        recipe: "default", or "paper" for the one that the network's paper prints.
        device: "cpu", "cuda" or "mps"; without it, the fastest that is there.
        out: the run folder, new or empty; without it a new one under `runs/`.
        skip_bad: leave out pictures that cannot be used.
        progress: who watches.

    Raises:
        UserError: something in the arguments or the pictures cannot work; it says what.
        Interrupted: Ctrl-C or SIGTERM came; the state is saved and `resume` goes on.
    """
    variant = atlas.find(network)
    target = _device(device)
    source = find_data(data)
    own = variant.spec.scaled(resolution=_resolution(variant, source.side))
    spec = own.compound(phi, width=width, depth=depth, resolution=resolution)
    layers = measure.layers_of(variant.network, spec)
    chosen = _adjusted(recipes.find(recipe, variant, layers), epochs, batch_size, lr, seed)
    folder = _vacant(Path(out) if out is not None else None, f"{variant.name}-{Path(source.name).name}")
    pictures = source.load(spec.resolution, seed=seed, skip_bad=skip_bad)
    if min(chosen.batch_size, len(pictures.train)) == 1 and layers.of_kind(torch.nn.BatchNorm2d.__name__):
        raise UserError(f"{variant.name} normalises over a batch, which must have at least 2 pictures")
    record = Record(
        variant=variant.name,
        spec=replace(spec, num_classes=len(pictures.classes), in_channels=pictures.channels),
        classes=pictures.classes,
        preprocessing=_preprocessing(variant, pictures),
        data=source.name,
        data_checksum=pictures.checksum,
        skip_bad=skip_bad,
        seed=seed,
        recipe=replace(chosen, epochs=chosen.epochs_for(len(pictures.train)), epochs_of=None),
        device=target.type,
        threads=torch.get_num_threads(),
    )
    folder.mkdir(parents=True, exist_ok=out is not None)
    run = Run(folder, record)
    with lock(folder):
        run.write_record()
        return _fit(run, pictures, progress or Progress())


def resume(folder: str | Path, *, progress: Progress | None = None) -> Run:
    """Go on with a run that was stopped or killed, to the same weights as if it never had been.

    A finished run is returned as it is.

    Raises:
        UserError: it is no run folder, it is damaged, or its pictures have changed.
    """
    run = load(folder)
    if run.record.results is not None:
        # Killed at its very end, a finished run may still have its checkpoint.
        (run.folder / CHECKPOINT).unlink(missing_ok=True)
        return run
    _device(run.record.device)
    callers_threads = torch.get_num_threads()
    with lock(run.folder):
        try:
            # Another number of threads adds up in another order, and so to other bits.
            torch.set_num_threads(run.record.threads)
            return _fit(run, run.load_data(), progress or Progress())
        finally:
            torch.set_num_threads(callers_threads)


def _fit(run: Run, pictures: data.PictureSet, progress: Progress) -> Run:
    record, recipe, objective = run.record, run.record.recipe, run.variant.objective
    device = torch.device(record.device)
    num_classes = len(record.classes)
    batches = data.Batches(
        pictures.train,
        record.preprocessing,
        batch_size=recipe.batch_size,
        device=device,
        seed=record.seed,
        augmentation=recipe.augmentation,
    )
    num_steps = recipe.epochs * len(batches)
    # The random numbers of whoever called us are theirs.
    with torch.random.fork_rng(), StopRequest() as stop:
        torch.manual_seed(record.seed)
        network = run.variant.network(record.spec).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = optimisers.build(recipe, network)
        saved = run.folder / CHECKPOINT
        state = checkpoint.load(saved, network, optimiser) if saved.exists() else checkpoint.State()
        clock = Clock(state.seconds)
        pace = checkpoint.Pace()

        def stop_at_non_numbers(what: str) -> NoReturn:
            save()
            kept = "keeps the last good state" if saved.exists() else "can only begin again"
            raise UserError(
                f"{what} at step {state.step + 1} in epoch {state.step // len(batches) + 1}; {run.folder} {kept}, "
                f"and a new run with a lower --lr than {recipe.lr:g} may help"
            )

        def save() -> None:
            if not finite(network):
                return  # The checkpoint before, or the beginning, is the last good state.
            begun = time.monotonic()
            state.seconds = clock.seconds()
            checkpoint.save(saved, state, network, optimiser)
            write(run.folder / METRICS, _lines(state))
            pace.written(time.monotonic() - begun)

        network.train()
        order = batches.order(state.step // len(batches))
        progress.begin(run, pictures, num_steps, state.step)
        try:
            while state.step < num_steps:
                epoch, step = divmod(state.step, len(batches))
                if step == 0:
                    order = batches.order(epoch)
                    if isinstance(optimiser, optimisers.DiagonalLevenbergMarquardt):
                        sample = batches.sample(order, optimiser.NUM_PICTURES)
                        targets = F.one_hot(sample.labels, num_classes).float()
                        optimiser.estimate(network, objective, sample.inputs, targets)
                seed_draws(device, derived_seed(record.seed, epoch, step))
                inputs, labels = batches.batch(order, epoch, step)
                lr = recipes.rate(recipe, len(batches), num_steps, state.step)
                for group in optimiser.param_groups:
                    group["lr"] = lr

                outputs = network(inputs)
                loss = objective.loss(outputs, F.one_hot(labels, num_classes).float())
                loss_value = loss.item()
                if not math.isfinite(loss_value):
                    stop_at_non_numbers(f"the loss became {loss_value}")
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()

                state.step += 1
                # Those of auxiliary heads come after the network's own.
                own = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
                state.tally(loss_value, own.argmax(1) == labels)
                progress.advance(len(labels))
                if step == len(batches) - 1:
                    progress.epoch(state.close_epoch(lr, clock.seconds()), recipe.epochs)
                if stop.signal is not None:
                    save()
                    raise Interrupted(run, stop.signal)
                if pace.due():
                    save()
            if not finite(network):
                stop_at_non_numbers("the weights left the range of numbers")
            # What follows may be interrupted too; resume then comes straight here.
            save()
        finally:
            progress.close()
        return _finish(run, network, pictures, state)


def _finish(run: Run, network: torch.nn.Module, pictures: data.PictureSet, state: checkpoint.State) -> Run:
    """Read the test pictures once, and write what stays of the run. Killed here, `resume` does it again."""
    record = run.record
    device = torch.device(record.device)
    batches = data.Batches(pictures.test, record.preprocessing, batch_size=EVALUATION_BATCH, device=device)
    evaluation = evaluate(network, run.variant.objective, batches, len(record.classes))
    table = measure.layers(network)
    title = f"{record.variant} on {Path(pictures.name).name}"
    write(run.folder / METRICS, _lines(state))
    write(run.folder / "curves.svg", draw.curves(title, state.metrics))
    accuracy = f"{100 * evaluation.accuracy:.2f} % of {evaluation.num_pictures:,} test pictures"
    write(
        run.folder / "confusion.svg",
        draw.confusion(f"{title}\n{accuracy}", record.classes, evaluation.confusion.numpy()),
    )
    results = Results(
        test_accuracy=evaluation.accuracy,
        test_interval=evaluation.interval,
        test_errors=evaluation.num_errors,
        test_pictures=evaluation.num_pictures,
        train_pictures=len(pictures.train),
        left_out_pictures=len(pictures.left_out),
        seconds=round(state.seconds, 3),
        params=table.params,
        macs=table.macs,
        weights_sha256=run.write_weights(network),
    )
    run.record = replace(record, results=results)
    run.write_record()
    (run.folder / CHECKPOINT).unlink(missing_ok=True)
    return run


def seed_draws(device: torch.device, seed: int) -> None:
    """Make what a network draws at random (dropout) a function of the step, as the batch is.

    Of the device alone: torch.manual_seed asks every kind of device, which takes a twentieth of a small network's step.
    """
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def finite(network: torch.nn.Module) -> bool:
    return all(bool(value.isfinite().all()) for value in network.parameters())


class Clock:
    """Seconds of training, those before an interruption included."""

    def __init__(self, before: float) -> None:
        self._start = time.monotonic() - before

    def seconds(self) -> float:
        return time.monotonic() - self._start


def _lines(state: checkpoint.State) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in state.metrics).encode()


def _adjusted(recipe: Recipe, epochs: int | None, batch_size: int | None, lr: float | None, seed: int) -> Recipe:
    """The recipe with what the person gave in place of its own."""
    for name, value in (("epochs", epochs), ("batch-size", batch_size)):
        if value is not None and value < 1:
            raise UserError(f"--{name} {value} trains nothing; it must be at least 1")
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed {seed} is out of range; it must be a whole number from 0 to 2**63 - 1")
    if lr is not None and not (lr > 0 and math.isfinite(lr)):
        raise UserError(f"--lr {lr:g} trains nothing; it must be a number above 0")
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs, epochs_of=None)
    if batch_size is not None:
        recipe = replace(recipe, batch_size=batch_size)
    if lr is not None:
        recipe = replace(recipe, lr=lr, schedule=tuple((n, rate * lr / recipe.lr) for n, rate in recipe.schedule))
    return recipe


def _device(name: str | None) -> torch.device:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name is None:
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available.get(name, False):
        there = ", ".join(kind for kind, is_there in available.items() if is_there)
        raise UserError(f"there is no device {name!r} on this machine; it has {there}")
    return torch.device(name)


def _resolution(variant: Variant, side: int | None) -> int:
    """The pictures' own size where the network takes it, between the smallest it takes and the paper's."""
    spec = variant.spec
    return spec.resolution if side is None else min(max(side, spec.smallest_resolution), spec.resolution)


def _vacant(out: Path | None, name: str) -> Path:
    """A folder that holds no run yet.

    Raises:
        UserError: the person's own choice holds something already.
    """
    if out is not None:
        if (out / RECORD).exists():
            raise UserError(f"{out} holds a run already; choose another folder, or convatlas resume {out}")
        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is a file; a run needs a folder")
        # Hidden files may be ours, of a run that was killed before its record was whole.
        if out.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
            raise UserError(f"{out} has other files in it; choose a new or empty folder")
        return out
    number = 1
    while (folder := Path("runs") / (name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return folder


def _preprocessing(variant: Variant, pictures: data.PictureSet) -> Preprocessing:
    """The paper's own range of pixel values, else the training set's mean and deviation."""
    train = pictures.train.pictures
    if variant.pixels is None:
        values = [train[:, channel].astype(np.float64) / 255 for channel in range(pictures.channels)]
        mean = tuple(float(channel.mean()) for channel in values)
        deviation = tuple(float(channel.std()) or 1.0 for channel in values)
    else:
        black, white = variant.pixels
        mean = (-black / (white - black),) * pictures.channels
        deviation = (1 / (white - black),) * pictures.channels
    return Preprocessing(
        resolution=train.shape[-1],
        channels=pictures.channels,
        mean=mean,
        deviation=deviation,
        side=pictures.side,
        ink=span(train) if pictures.ink else None,
    )
