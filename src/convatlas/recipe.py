"""Recipes: how a network is trained, as plain data."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from convatlas.errors import UserError, check_within

MAX_EPOCHS = 100_000
MAX_BATCH_SIZE = 2**20
MAX_LR = 1e300
MAX_LENGTH = 1e9
"""Of a part of a schedule, in epochs or iterations."""
PART = (0.0, 1.0)
"""What a fraction may be."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of training images, drawn anew for every image in every epoch.

    First the image is cropped (`crop`, or by `shift`) and transformed by one affine map about its center, whose
    parameters are uniform from minus to plus the values here. Then images of a batch are mixed.
    """

    crop: float = 0.0
    """The smallest area of a random crop that is resized, as a fraction of the image's, uniform up to all of it; 0: no
    such crop. A crop that would be wider than the image is as wide as it, and so smaller."""
    aspect: float = 1.0
    """The largest aspect ratio of such a crop, wide or tall."""
    shift: float = 0.0
    """Translation along both axes, as a fraction of the side."""
    scale: float = 0.0
    """Scaling: 0.1 is from 90 % to 110 %."""
    squeeze: float = 0.0
    """Horizontal compression with vertical stretching, or the reverse: 0.1 is up to 10 %."""
    shear: float = 0.0
    """Horizontal shear: horizontal shift per unit of height."""
    rotation: float = 0.0
    """Degrees."""
    flip: bool = False
    """Horizontal flip of half of the images."""
    lighting: float = 0.0
    """PCA lighting noise: the standard deviation of the shifts along the principal components of the training set's
    colors (Krizhevsky et al. 2012, section 4.1)."""
    side: float = 1.0
    """Side of the training images, as a fraction of the resolution that the network is tested at. Objects look larger
    in resized crops than in whole images; a smaller side undoes that (Touvron et al. 2019, section 3)."""
    mixup: float = 0.0
    """Fraction of the batches with mixup: images blended in pairs, with weights from Beta(0.2, 0.2) (Zhang et al.
    2018)."""
    cutmix: float = 0.0
    """Fraction of the batches with CutMix: a rectangle of each image shows another one, with uniform area (Yun et al.
    2019)."""

    def __post_init__(self) -> None:
        check_within(
            self,
            crop=PART,
            aspect=(1, 100),
            shift=PART,
            scale=PART,
            squeeze=PART,
            shear=(0, 10),
            rotation=(0, 360),
            lighting=(0, 100),
            side=(0.1, 1),
            mixup=PART,
            cutmix=PART,
        )

    def side_for(self, resolution: int) -> int:
        """Side in pixels of the training images of a network with that resolution."""
        return round(self.side * resolution)


class Optimizer(enum.StrEnum):
    """The optimizers that recipes use."""

    SGD = "sgd"
    """With momentum; weight decay is added to the gradient."""
    RMSPROP = "rmsprop"
    """Tieleman and Hinton 2012, with momentum; weight decay is added to the gradient."""
    ADAMW = "adamw"
    """Loshchilov and Hutter 2019."""
    LEVENBERG_MARQUARDT = "levenberg-marquardt"
    """The stochastic diagonal form of LeCun et al. 1998, Appendix C."""


class Decayed(enum.StrEnum):
    """Which parameters have weight decay."""

    ALL = "all"
    WEIGHTS = "weights"
    """Those that multiply inputs: no biases, norms and coefficients."""
    NOT_DEPTHWISE = "not depthwise"
    """Of these, those of depthwise convolutions excepted (Howard et al. 2017, section 3.2)."""


class Schedule(Protocol):
    """The learning rate during training."""

    def lr_at(self, peak: float, step: int, num_steps: int) -> float:
        """Of a step, from 0; the highest rate is `peak`."""
        ...

    def describe(self, epochs: int) -> str:
        """In words, for training of that length."""
        ...


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Cosine annealing from the peak to 0 (Loshchilov and Hutter 2017), after a linear warmup."""

    warmup: float = 0.0
    """Fraction of the training in which the rate rises."""

    def __post_init__(self) -> None:
        check_within(self, warmup=PART)

    def lr_at(self, peak: float, step: int, num_steps: int) -> float:
        done = step / num_steps
        if done < self.warmup:
            # The first step is one already.
            return peak * (step + 1) / (self.warmup * num_steps + 1)
        return peak * 0.5 * (1 + math.cos(math.pi * (done - self.warmup) / (1 - self.warmup)))

    def describe(self, epochs: int) -> str:
        warmup = f"warmup of {self.warmup * epochs:.3g} epochs, then " if self.warmup else ""
        return f"{warmup}cosine to 0"


@dataclass(frozen=True)
class LinearDecay:
    """Linear decay from the peak to 0."""

    def lr_at(self, peak: float, step: int, num_steps: int) -> float:
        return peak * (1 - step / num_steps)

    def describe(self, epochs: int) -> str:
        return "linear to 0"


@dataclass(frozen=True)
class Steps:
    """Constant rates, one after another."""

    rates: tuple[tuple[int, float], ...]
    """(length, rate), in the paper's own unit, epochs or iterations; in training of another length each lasts the
    same fraction of it."""

    def __post_init__(self) -> None:
        lengths, rates = [length for length, _ in self.rates], [rate for _, rate in self.rates]
        if not rates or not all(1 <= length <= MAX_LENGTH for length in lengths):
            raise UserError("a schedule of steps has one at least, and each has a length")
        if not all(0 <= rate <= MAX_LR for rate in rates) or not any(rates):
            raise UserError(f"the rates of a schedule are 0 to {MAX_LR:,g}, and not all 0")

    def lr_at(self, peak: float, step: int, num_steps: int) -> float:
        *ends, total = accumulate(length for length, _ in self.rates)
        # In whole numbers, the next rate begins at the very border.
        now = sum(step * total >= end * num_steps for end in ends)
        return self.rates[now][1] * (peak / max(rate for _, rate in self.rates))

    def describe(self, epochs: int) -> str:
        total = sum(length for length, _ in self.rates)
        return ", ".join(f"{rate:g} for {epochs * length / total:.3g} epochs" for length, rate in self.rates)


@dataclass(frozen=True, kw_only=True)
class Staircase:
    """Step decay: the rate is multiplied by `factor` after every `every` epochs."""

    factor: float
    every: float
    """Epochs of training of `of` epochs; in training of another length each step lasts the same fraction of it."""
    of: float
    warmup: float = 0.0
    """Epochs of a linear warmup, likewise."""

    def __post_init__(self) -> None:
        lengths = (1e-3, MAX_LENGTH)
        check_within(self, factor=PART, every=lengths, of=lengths, warmup=(0, MAX_LENGTH))

    def lr_at(self, peak: float, step: int, num_steps: int) -> float:
        epoch = step / num_steps * self.of
        if epoch < self.warmup:
            # The first step is one already.
            return peak * (step + 1) / (num_steps * self.warmup / self.of + 1)
        return peak * self.factor ** math.floor(epoch / self.every + 1e-9)

    def describe(self, epochs: int) -> str:
        scale = epochs / self.of
        warmup = f", after a warmup of {self.warmup * scale:.3g} epochs" if self.warmup else ""
        return f"times {self.factor:.3g} every {self.every * scale:.3g} epochs{warmup}"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained.

    Raises:
        UserError: a number with which nothing can be trained.
    """

    name: str
    optimizer: Optimizer
    lr: float
    """The peak learning rate."""
    schedule: Cosine | LinearDecay | Steps | Staircase
    batch_size: int
    """Over all processes."""
    epochs: int
    epochs_of: int | None = None
    """The number of images for which `epochs` is meant; smaller data sets get more epochs, as 1/cbrt(n)."""
    momentum: float = 0.0
    """Of SGD and RMSprop."""
    alpha: float = 0.0
    """RMSprop's decay of the mean square."""
    eps: float = 1e-8
    """RMSprop's and AdamW's."""
    weight_decay: float = 0.0
    decayed: Decayed = Decayed.ALL
    label_smoothing: float = 0.0
    """Fraction of the target probability that is spread over all classes (Szegedy et al. 2016)."""
    ema: float = 0.0
    """Averages the evaluated weights exponentially, over about this fraction of training; 0: no average."""
    max_norm: float = 0.0
    """Gradient clipping: the largest norm; 0: none."""
    augmentation: Augmentation = Augmentation()
    sources: tuple[tuple[str, str], ...] = ()
    """For a paper's recipe: (fields of it or of its augmentation, where the paper prints them). Other fields are not
    printed, and are our choice."""

    def __post_init__(self) -> None:
        check_within(
            self,
            lr=(0, MAX_LR),
            batch_size=(1, MAX_BATCH_SIZE),
            epochs=(1, MAX_EPOCHS),
            epochs_of=(1, 2**40),
            momentum=PART,
            alpha=PART,
            eps=(0, 1e6),
            weight_decay=(0, 1e6),
            label_smoothing=PART,
            ema=PART,
            max_norm=(0, 1e30),
        )

    def epochs_for(self, num_images: int) -> int:
        """Epochs for a training set of that many images."""
        if self.epochs_of is None or num_images >= self.epochs_of:
            return self.epochs
        return math.ceil(self.epochs * math.cbrt(self.epochs_of / num_images))

    def lr_at(self, step: int, num_steps: int) -> float:
        """The learning rate of a step, from 0."""
        return self.schedule.lr_at(self.lr, step, num_steps)
