"""What a run trains: its network with initial or pretrained weights, its optimizer, and its batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import nn

from convatlas.data import Batches
from convatlas.files import SILENT, ProgressCallback
from convatlas.models.network import build
from convatlas.recipe import Optimizer
from convatlas.runs.options import Execution
from convatlas.runs.run import Run
from convatlas.training import optimizers
from convatlas.training.constraints import ConstrainedWeights
from convatlas.training.distillation import Teacher
from convatlas.training.distribution import Processes
from convatlas.training.fine_tuning import (
    Backbone,
    FeatureBatches,
    FrozenBackbone,
    batch_to_fit,
    fit,
    layer_groups,
    learning_rates,
    unfreeze,
)
from convatlas.training.start import open_weights
from convatlas.training.step import Step, class_weights


@dataclass(frozen=True)
class TrainingSetup:
    run: Run
    body: Backbone | None = None
    """The weights that training starts from, under a new head."""
    constrained: ConstrainedWeights | None = None
    """The weights that training starts from, head included, and the constraint that training keeps."""

    @classmethod
    def of(cls, run: Run, progress: ProgressCallback = SILENT) -> Self:
        """
        Args:
            progress: called with the progress of a download.

        Raises:
            UserError: the weights that training starts from are gone, or are another network's.
        """
        init_from = run.record.init_from
        if init_from is None:
            return cls(run)
        if init_from.constraint is not None:
            return cls(run, constrained=ConstrainedWeights.of(init_from, run.card))
        weights = open_weights(init_from.path, run.variant, progress)
        return cls(run, body=Backbone.of(weights.tensors, run.variant, run.spec, init_from.path))

    @property
    def freezes(self) -> bool:
        """Whether the head alone is trained."""
        init_from = self.run.record.init_from
        return init_from is not None and init_from.freeze

    @property
    def is_worth_autotuning(self) -> bool:
        """Whether timing steps pays: a head alone is trained in no time, and curvatures take longer than steps."""
        return not self.freezes and self.run.record.recipe.optimizer is not Optimizer.LEVENBERG_MARQUARDT

    def build(self, device: torch.device) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The network before the first step, in training mode, and its optimizer."""
        record = self.run.record
        torch.manual_seed(record.seed)
        network = build(self.run.card).to(device).train()
        groups = None
        if self.constrained is not None:
            self.constrained.attach(network)
        if self.body is not None:
            self.body.load_into(network)
            head = self.body.head
            groups = (
                [self.body.head_of(network)]
                if self.freezes
                else learning_rates(layer_groups(network, head), is_fitted=record.fits_head)
            )
        return network, optimizers.build(record.recipe, network, groups)

    def features(self, network: nn.Module, batches: Batches) -> FeatureBatches | None:
        """The features of the training images, if the head alone is trained, on them."""
        if self.body is None or not self.freezes:
            return None
        return FeatureBatches.of(batches, network, self.body.head)

    def fit_head(
        self, network: nn.Module, batches: Batches, processes: Processes, known: FeatureBatches | None = None
    ) -> None:
        """Fit the head to the features of the training images before the first step, if the record says so.

        Args:
            known: the features, if they are computed already.
        """
        record = self.run.record
        if self.body is None or not record.fits_head:
            return
        if processes.is_main:
            head = self.body.head
            batch = batch_to_fit(batches, network, head, None if known is None else known.features)
            part = frozen(network, head, batches)
            # A line search needs the gradients of its losses, which bfloat16 rounds too much.
            exact = replace(record.execution, bfloat16=False, compiled=False)
            fit(part.head, batch, self._step(part, batches, exact, Processes()))
        processes.sync_state(network)

    def trained_part(self, network: nn.Module, batches: Batches) -> nn.Module:
        """The part of the network that is trained."""
        if self.body is None or not self.freezes:
            return network
        return frozen(network, self.body.head, batches)

    def teacher(self, network: nn.Module) -> Teacher | None:
        """The teacher of that network, if it has one."""
        distillation = self.run.record.distillation
        return None if distillation is None else Teacher.of(self.run, network, distillation)

    def step(self, part: nn.Module, batches: Batches, processes: Processes, teacher: Teacher | None = None) -> Step:
        """The training step of that part, on the device of those batches."""
        return self._step(part, batches, self.run.record.execution, processes, teacher)

    def _step(
        self,
        part: nn.Module,
        batches: Batches,
        execution: Execution,
        processes: Processes,
        teacher: Teacher | None = None,
    ) -> Step:
        record, num_classes = self.run.record, len(self.run.card.classes)
        weights = class_weights(batches.split, num_classes, balanced=record.class_weights == "balanced")
        return Step.prepared(
            part,
            self.run.variant.objective,
            execution,
            class_weights=weights.to(batches.device),
            batch_size=record.recipe.batch_size,
            micro_batch=record.runtime.micro_batch,
            processes=processes,
            auxiliary=teacher,
        )

    def unfreeze(self, network: nn.Module, done: float) -> bool:
        """Unfreeze the layers that are due after the fraction `done` of training; return whether any changed."""
        if self.body is None or self.freezes:
            return False
        record = self.run.record
        return unfreeze(
            layer_groups(network, self.body.head),
            done,
            is_fitted=record.fits_head,
            keeps_statistics=record.keeps_statistics,
        )


def frozen(network: nn.Module, head: str, batches: Batches) -> FrozenBackbone:
    """The network with its head alone to be trained, for images as in those batches."""
    return FrozenBackbone(network, head, batches.plain(torch.arange(0)).inputs)
