"""The stages of compression: a model whose weights were changed, and the same after fine-tuning."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import nn

from convatlas import measure, training
from convatlas.data import Dataset
from convatlas.data.batches import Batch
from convatlas.errors import UserError
from convatlas.files import clear_lock, occupied
from convatlas.files.typed_json import encoded
from convatlas.models.card import CARD
from convatlas.models.evaluation import evaluate, evaluation_batches
from convatlas.models.folder import read_card, weights_checksum, write_model
from convatlas.models.model import Model, open_model
from convatlas.networks.quantization import remove_fake_quant
from convatlas.runs.options import ClassWeights, Distillation, InitFrom, Runtime, WeightConstraint
from convatlas.runs.run import Run
from convatlas.spec import Spec, Variant
from convatlas.spec.quantization import Quantization
from convatlas.training import Progress, Request
from convatlas.training.distillation import open_teacher
from convatlas.training.plan import adjusted
from convatlas.training.recipes import DEFAULT


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A model with what its fine-tuning needs: the images that it was trained on, and how they were weighted."""

    model: Model
    data: str | Path | None = None
    """Name or folder of the images; None: as the model's card names them."""
    class_weights: ClassWeights | None = None
    micro_batch: int | None = None

    @classmethod
    def of(cls, opened: Run | Model, data: str | Path | None = None) -> Self:
        """
        Args:
            data: name or folder of the images, if they were moved.

        Raises:
            UserError: the run is not finished.
        """
        if isinstance(opened, Model):
            return cls(model=opened, data=data)
        record = opened.record
        return cls(
            model=opened.model,
            data=record.data if data is None else data,
            class_weights=record.class_weights,
            micro_batch=record.runtime.micro_batch,
        )

    @property
    def variant(self) -> Variant:
        return self.model.variant

    @property
    def spec(self) -> Spec:
        return self.model.spec

    @property
    def network(self) -> nn.Module:
        return self.model.network

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.model.name

    @property
    def path(self) -> Path:
        """The folder or the `.cva` file that it lies in."""
        assert self.model.path is not None, "stages lie on disk"
        return self.model.path

    def load_data(self) -> Dataset:
        """The data set that the model was trained on.

        Raises:
            UserError: it is gone or has changed, or its place is not known.
        """
        return self.model.load_data(self.data)


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """How a network is trained after each change of its weights."""

    epochs: int | None = None
    """None: those of the default recipe."""
    lr: float | None = None
    distillation: Distillation | None = None
    runtime: Runtime = field(default_factory=Runtime)
    progress: Progress = field(default_factory=Progress)

    def check(self, source: TrainedModel) -> None:
        """
        Raises:
            UserError: the model cannot be trained so. Checked before anything is made that is to be trained.
        """
        adjusted(DEFAULT, self.epochs, None, self.lr)
        if self.distillation is not None:
            open_teacher(self.distillation.teacher, source.model.classes)

    def __call__(
        self, source: TrainedModel, constraint: WeightConstraint, out: str | Path, *, seed: int | None = None
    ) -> TrainedModel:
        """Train the model's weights further on its own data set; a run that is there is resumed.

        Args:
            constraint: what is kept of the weights.
            seed: None: that of the model's training, which its split of the images may depend on.

        Raises:
            UserError: see `train`.
            Interrupted: likewise; the same call continues.
        """
        model = source.model
        request = Request(
            network=model.card.variant,
            spec=source.spec,
            data=model.provenance.data if source.data is None else source.data,
            epochs=self.epochs,
            lr=self.lr,
            seed=model.provenance.seed if seed is None else seed,
            class_weights=source.class_weights,
            init_from=InitFrom(path=str(source.path), constraint=constraint),
            distillation=self.distillation,
            runtime=replace(self.runtime, micro_batch=source.micro_batch),
            skip_bad=model.provenance.skip_bad,
        )
        run = training.train_or_resume(request, Path(out), self.progress)
        # Its record may name where the images lay when it began.
        return replace(source, model=run.model)


def calibration_batch(source: TrainedModel, num_images: int = 500) -> Batch:
    """About so many training images, without augmentation, drawn of each class with the seed of the training.

    Raises:
        UserError: they are all of one class, or the data set is gone or has changed.
    """
    train = source.load_data().train
    generator = np.random.default_rng(source.model.provenance.seed)
    _, drawn = train.stratified_split(min(num_images / len(train), 1.0), generator)
    batch = evaluation_batches(source.model.card, drawn, torch.device("cpu")).plain(torch.arange(len(drawn)))
    if len(batch.labels.unique()) < 2:
        name = source.model.classes[int(batch.labels[0])]
        raise UserError(f"all {len(drawn)} images to calibrate on are of class {name}; it takes at least two classes")
    return batch


def derive_model(
    source: TrainedModel,
    change: Callable[[nn.Module], nn.Module],
    method: str,
    out: str | Path,
    quantization: Quantization | None = None,
) -> TrainedModel:
    """The model that a change makes of another one, evaluated and saved in a folder; one that is there is opened.

    Args:
        change: makes the new network of a copy of the model's, which it may modify.
        method: what that does, in words, for the card.
        quantization: of the new network.

    Raises:
        UserError: the data set is gone or has changed, or the folder holds something else.
    """
    out, parent = Path(out), weights_checksum(source.network)
    there = read_card(out) if (out / CARD).is_file() else None
    if there is not None and there.provenance.parent_sha256 == parent:
        if there.provenance.method != method:
            raise UserError(
                f"{out} holds a network that was {there.provenance.method}, not {method}; choose a new folder"
            )
        if there.weights_sha256 is not None:
            clear_lock(out)
            return replace(source, model=open_model(out))
        # Its process was killed.
    elif occupied(out):
        raise UserError(f"{out} holds something already; choose a new or empty folder")
    network = change(remove_fake_quant(copy.deepcopy(source.network))).eval()
    spec = network.spec
    assert isinstance(spec, Spec), "every network of the atlas has one"
    costs = measure.cost_of(source.variant.network, spec)
    card = replace(
        source.model.card,
        spec=encoded(spec),
        provenance=replace(source.model.provenance, method=method, parent_sha256=parent),
        params=costs.params,
        macs=costs.macs,
        quantization=quantization,
        score=None,
        weights_sha256=None,
    )
    test = evaluation_batches(card, source.load_data().test, torch.device("cpu"))
    score = evaluate(network, source.variant.objective, test).score
    write_model(out, replace(card, score=score), network)
    return replace(source, model=open_model(out))
