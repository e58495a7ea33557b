"""Augmentation of whole batches, on their device.

Random numbers are a function of the generator alone, and drawn for all images of a batch at once: a part of a batch is
augmented as it would be within the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from convatlas.recipe import Augmentation

MIXUP_ALPHA = 0.2
"""Mixup's alpha: the partner image's weight is drawn from Beta(alpha, alpha) (Zhang et al. 2018, section 4.1)."""


@dataclass(frozen=True)
class PrincipalColors:
    """The principal components of a data set's colors (Krizhevsky et al. 2012, section 4.1)."""

    directions: Tensor
    """(channels, channels): components as columns, each scaled by its standard deviation, in pixel values 0 to 255."""

    @classmethod
    def of(cls, images: npt.NDArray[np.uint8]) -> PrincipalColors:
        """The components of images (n, channels, height, width)."""
        channels = images.shape[1]
        pixels = images.transpose(1, 0, 2, 3).reshape(channels, -1).astype(np.float64)
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(pixels)))
        # The sign of an eigenvector is free, and must not depend on the library.
        vectors *= np.sign(vectors[np.abs(vectors).argmax(0), np.arange(channels)])
        return cls(torch.from_numpy(vectors * np.sqrt(values.clip(0))).float())

    def shifts(self, num: int, std: float, generator: np.random.Generator) -> Tensor:
        """What to add to each of `num` images: (num, channels, 1, 1).

        Args:
            std: standard deviation of the random step along each component, in parts of the component's own.
        """
        draws = torch.from_numpy(generator.normal(0, std, (num, len(self.directions)))).float()
        return (draws @ self.directions.T)[:, :, None, None]


def pixel_grid(side: int) -> Tensor:
    """Homogeneous coordinates (3, side * side) of pixel centers; the image spans -1 to 1."""
    centers = (2 * torch.arange(side, dtype=torch.float32) + 1) / side - 1
    y, x = torch.meshgrid(centers, centers, indexing="ij")
    return torch.stack([x.flatten(), y.flatten(), torch.ones(side * side)])


def affine_matrices(
    num: int, augmentation: Augmentation, resolution: int, frame: int, generator: np.random.Generator
) -> Tensor:
    """Random affine matrices (num, 2, 3) from output to input coordinates, both from -1 to 1, as `affine_grid` takes.

    Args:
        resolution: side of the augmented images, in pixels.
        frame: side of the given ones; if it is larger than `resolution`, they are shifted within it.
    """
    draws = torch.from_numpy(generator.uniform(-1, 1, (9, num))).float()
    scale = 1 + augmentation.scale * draws[0]
    squeeze = 1 + augmentation.squeeze * draws[1]
    shear = augmentation.shear * draws[2]
    angle = torch.deg2rad(augmentation.rotation * draws[3])
    mirror = torch.where(draws[6] < 0, -1.0, 1.0) if augmentation.flip else torch.ones(num)
    if augmentation.crop:
        area = augmentation.crop + (1 - augmentation.crop) * (draws[7] + 1) / 2
        aspect = (math.log(augmentation.aspect) * draws[8]).exp()
        # Half of the sides of the part that is cut out; a cut wider than the image is as wide as it.
        half = torch.stack([area * aspect, area / aspect]).sqrt().clamp(max=1)
        center = (1 - half) * draws[4:6]
    else:
        half = torch.full((2, num), resolution / frame)
        # Whole pixels, so that a mere shift does not blur. One unit is half the side.
        center = (((frame - resolution) / 2 + augmentation.shift * resolution) * draws[4:6]).round() * (2 / frame)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    rows = [
        half[0] * cos * squeeze * mirror, half[0] * (cos * shear - sin) / squeeze, center[0],
        half[1] * sin * squeeze * mirror, half[1] * (sin * shear + cos) / squeeze, center[1],
    ]  # fmt: skip
    return torch.stack(rows, dim=1).view(num, 2, 3)


def warp(images: Tensor, maps: Tensor, grid: Tensor) -> Tensor:
    """Images (num, channels, frame, frame) under their affine maps (num, 2, 3), bilinear, with 0 outside of the images.

    Args:
        grid: `pixel_grid` of the result's side.
    """
    num, side = len(images), math.isqrt(grid.shape[1])
    # One product for the whole batch; affine_grid multiplies many tiny matrices and takes ten times as long.
    places = (maps.view(2 * num, 3) @ grid).view(num, 2, side, side).permute(0, 2, 3, 1)
    return F.grid_sample(images, places, mode="bilinear", padding_mode="zeros", align_corners=False)


def mix(inputs: Tensor, targets: Tensor, augmentation: Augmentation, generator: np.random.Generator) -> Tensor:
    """Mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019) of inputs (n, channels, side, side), in place.

    Args:
        targets: probabilities (n, classes).

    Returns:
        The targets after mixing.
    """
    kind, share, x, y = generator.uniform(size=4)
    if kind < augmentation.mixup:
        share = generator.beta(MIXUP_ALPHA, MIXUP_ALPHA)
        inputs.lerp_(inputs.flip(0), share)
    elif kind < augmentation.mixup + augmentation.cutmix:
        height, width = inputs.shape[2:]
        # The rectangle's center lies anywhere; what would be outside the image is cut off.
        half_height, half_width = (round(math.sqrt(share) * side / 2) for side in (height, width))
        top, left = max(round(y * height) - half_height, 0), max(round(x * width) - half_width, 0)
        bottom, right = round(y * height) + half_height, round(x * width) + half_width
        part = inputs[:, :, top:bottom, left:right]
        part.copy_(part.flip(0))
        share = part.shape[2] * part.shape[3] / (height * width)
    else:
        return targets
    return targets.lerp(targets.flip(0), share)
