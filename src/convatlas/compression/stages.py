"""A run made of another run: its weights changed, then trained on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from convatlas import measure, training
from convatlas.data.batches import Batch
from convatlas.errors import UserError
from convatlas.files import lock, occupied, write
from convatlas.networks.low_bits import LowBits, remove_fake_quant
from convatlas.recipe import Distillation, WeightConstraint
from convatlas.runs import METRICS, Run, evaluate, load
from convatlas.runs.run import RECORD
from convatlas.spec import Spec
from convatlas.training import Progress, Request, plan
from convatlas.training.distillation import teacher_named


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """Of the trainings that mend a network after each change."""

    epochs: int | None = None
    """None: the default recipe's."""
    lr: float | None = None
    distillation: Distillation | None = None
    device: str | None = None
    """See `train`."""
    autotune: bool = True
    """See `train`."""
    progress: Progress = field(default_factory=Progress)

    def check(self, run: Run) -> None:
        """
        Raises:
            UserError: a run cannot be trained on so; before something is made that is to be.
        """
        plan.adjusted(run.record.recipe, self.epochs, None, self.lr)
        if self.distillation is not None:
            teacher_named(self.distillation.teacher, run.record.classes)

    def __call__(self, run: Run, kept: WeightConstraint, out: str | Path, *, seed: int | None = None) -> Run:
        """Train on, on the run's own images; a training that is there goes on.

        Args:
            kept: what stays of the weights.
            seed: without it, the run's own, which its split of the images may hang on.

        Raises:
            UserError: see `train`.
            Interrupted: likewise; the same call goes on.
        """
        record = run.record
        request = Request(
            network=record.variant,
            spec=record.spec,
            data=record.data,
            epochs=self.epochs,
            lr=self.lr,
            seed=record.seed if seed is None else seed,
            balance=record.balance,
            start=run.folder,
            kept=kept,
            distillation=self.distillation,
            device=self.device,
            autotune=self.autotune,
            skip_bad=record.skip_bad,
            micro_batch=record.micro_batch,
        )
        return training.finish(request, Path(out), self.progress)


def calibration_batch(run: Run, most: int = 500) -> Batch:
    """About so many training images of a run, unchanged, drawn of each class with its seed.

    Raises:
        UserError: they are all of one class, of which they say nothing; or the data set is gone or has changed.
    """
    train = run.load_data().train
    _, drawn = train.stratified_split(min(most / len(train), 1.0), np.random.default_rng(run.record.seed))
    batch = run.judging(drawn, torch.device("cpu")).plain(torch.arange(len(drawn)))
    if len(batch.labels.unique()) < 2:
        name = run.record.classes[int(batch.labels[0])]
        raise UserError(f"all {len(drawn)} images to calibrate on are of class {name}; it takes at least two")
    return batch


def derive_run(
    run: Run, change: Callable[[nn.Module], nn.Module], how: str, out: str | Path, low_bits: LowBits | None = None
) -> Run:
    """A finished run folder of a network that was made of the run's, judged anew; one that is there is opened.

    Args:
        change: makes the network of a copy of the run's, which it may change.
        how: what that does, in words, for the record.
        low_bits: of the network that is made.

    Raises:
        UserError: the run is not finished, its data set is gone or has changed, or the folder holds something else.
    """
    out, start = Path(out), str(run.folder.resolve())
    there = load(out) if (out / RECORD).is_file() else None
    if there is not None and there.record.start == start:
        if there.record.made != how:
            raise UserError(f"{out} holds a network that was {there.record.made}, not {how}; choose a new folder")
        if there.record.results is not None:
            return there
        # Its process was killed.
    elif occupied(out):
        raise UserError(f"{out} holds something already; choose a new or empty folder")
    network = change(remove_fake_quant(copy.deepcopy(run.network))).eval()
    test = run.judging(run.load_data().test, torch.device("cpu"))
    evaluation = evaluate(network, run.variant.objective, test)
    spec = network.spec
    assert isinstance(spec, Spec), "every network of the atlas has one"
    cost = measure.cost_of(run.variant.network, spec)
    record = replace(
        run.record,
        spec=spec,
        start=start,
        freeze=False,
        kept=None,
        distillation=None,
        low_bits=low_bits,
        made=how,
        width=None,
        depth=None,
        phi=None,
        results=None,
    )
    new = Run(out, record)
    with lock(out):
        # First, whose folder this is.
        new.write_record()
        metrics = run.folder / METRICS
        if metrics.is_file():
            # The curves of the training that these weights come from.
            write(out / METRICS, metrics.read_bytes())
        results = replace(
            run.results,
            test_accuracy=evaluation.accuracy,
            test_interval=evaluation.interval,
            test_errors=evaluation.num_errors,
            params=cost.params,
            macs=cost.macs,
            weights_sha256=new.write_weights(network),
        )
        new.record = replace(record, results=results)
        new.write_record()
    return new
