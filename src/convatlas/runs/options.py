"""What is asked of training beside its network, data and recipe. The request, the record and the command share it.

Nothing here loads torch.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from convatlas.errors import UserError, check_within
from convatlas.formatting import plural

MAX_THREADS = 512
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 1000.0

ClassWeights = Literal["balanced"]
"""Weights of the classes in the loss: "balanced" lets every class count the same, however many images it has."""


class WeightConstraint(enum.StrEnum):
    """What fine-tuning keeps of the weights that it starts from."""

    NONE = "none"
    """Nothing: all weights, those of the head too, are trained."""
    ZEROS = "zeros"
    """Pruned weights stay 0."""
    QUANTIZED = "quantized"
    """Weights stay on their quantization grid; the step sizes are trained too (LSQ, Esser et al. 2020)."""
    SHARED = "shared"
    """Equal weights stay equal, and 0 stays 0 (Han, Mao and Dally 2016, section 3.3)."""


@dataclass(frozen=True, kw_only=True)
class InitFrom:
    """Trained weights that training starts from."""

    path: str
    """A run or model folder, a `.cva` file, a `.safetensors` file of the same network, another library's checkpoint,
    published weights as "torchvision:resnet18", or a model on the hub as "hf:OWNER/NAME"; "torchvision" alone stands
    for its default weights of the network."""
    freeze: bool = False
    """Train the head alone, on features that are computed once and without augmentation."""
    constraint: WeightConstraint | None = None
    """None: a new head is trained on top of the weights. Otherwise the head's weights are kept too, and the weights
    obey the constraint."""

    def __post_init__(self) -> None:
        if self.freeze and self.constraint is not None:
            raise UserError("`freeze` trains a new head and a constraint keeps the old one; choose one of them")


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Training images that are held out: the weights of the epoch with the best accuracy on them are kept. In
    fine-tuning it is the last within a standard error of the best, or the fitted head if no epoch is as good."""

    val_split: float = 0.1
    """The fraction of each class to hold out, drawn with the seed; at least one image."""
    patience: int | None = None
    """Early stopping: how many epochs may pass without a better one; None: never stop early."""

    def __post_init__(self) -> None:
        if not 0 < self.val_split < 1:
            raise UserError(f"`val_split` {self.val_split:g} splits nothing; it must be between 0 and 1")
        _at_least_one("patience", self.patience)


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Learning from the outputs of a trained network, the teacher (Hinton, Vinyals and Dean 2015)."""

    teacher: str
    """A run or model folder, a `.cva` file, published weights or a model on the hub, of any family."""
    temperature: float = 2.0
    """Distillation temperature. The default is low because teachers trained with label smoothing, as the default
    recipe does, have soft outputs already (Chandrasegaran et al. 2022)."""
    distill_weight: float = 0.9
    """Weight of the teacher in the loss, 0 to 1; the labels have the rest (section 2)."""
    attention_weight: float = 0.0
    """Weight of an additional attention transfer loss (Zagoruyko and Komodakis 2017, equation 2)."""

    def __post_init__(self) -> None:
        check_within(self, temperature=(MIN_TEMPERATURE, MAX_TEMPERATURE))
        if not 0 < self.distill_weight <= 1:
            raise UserError(f"`distill_weight` {self.distill_weight:g} does not work; it must be above 0 and at most 1")
        check_within(self, attention_weight=(0, 1e9))


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where and how training computes."""

    device: str | None = None
    """"cpu", "cuda" or "mps"; None: the fastest that this machine has."""
    autotune: bool = True
    """Time a few steps first and choose the fastest precision, memory format, threads and compilation."""
    micro_batch: int | None = None
    """Micro-batch size for gradient accumulation, if a batch does not fit into memory; None: no accumulation."""
    checkpoint_steps: int | None = None
    """Steps between checkpoints, in addition to those every few seconds; None: only those."""

    def __post_init__(self) -> None:
        _at_least_one("micro_batch", self.micro_batch)
        _at_least_one("checkpoint_steps", self.checkpoint_steps)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a training step is computed. It changes rounding, and the memory format also which units dropout drops."""

    threads: int
    """Of each process on the CPU."""
    channels_last: bool = True
    """The memory format of weights and images; otherwise contiguous."""
    bfloat16: bool = False
    """Convolutions and matrix products in bfloat16 (`torch.autocast`)."""
    compiled: bool = False
    """By `torch.compile`."""

    def __post_init__(self) -> None:
        check_within(self, threads=(1, MAX_THREADS))

    def describe(self) -> str:
        """ "float32, channels last, 2 threads" and the like."""
        return ", ".join(
            [
                "bfloat16" if self.bfloat16 else "float32",
                "channels last" if self.channels_last else "contiguous",
                plural(self.threads, "thread"),
                *["compiled"] * self.compiled,
            ]
        )


def _at_least_one(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise UserError(f"`{name}` {value} does not work; it must be at least 1")
