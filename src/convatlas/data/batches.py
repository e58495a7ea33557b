"""Batches, made whole on the device from one tensor of bytes.

The order of an epoch and the random changes of a step are pure functions of the seed, the epoch and the step:
nothing of them needs saving, and a resumed run sees what the unbroken one would have seen.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from convatlas.data.dataset import Split
from convatlas.pictures import Preprocessing
from convatlas.spec import Augmentation


class Batch(NamedTuple):
    inputs: Tensor
    """(n, channels, height, width), normalised."""
    labels: Tensor
    """(n,)"""


def derived_seed(*parts: int) -> int:
    """A seed of 64 bits for each combination of numbers."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class Batches:
    """A split on `device`, cut into batches of `batch_size`; the last of an epoch may be smaller.

    A single picture at the end joins the batch before: batch normalisation has nothing to compare it with.
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        # torch.tensor copies into torch's own, aligned memory: the same arithmetic whatever numpy's alignment.
        self.pictures = torch.tensor(split.pictures, device=device)
        self.labels = torch.tensor(split.labels, device=device)
        self.mean = 255 * torch.tensor(preprocessing.mean, device=device).view(-1, 1, 1)
        self.deviation = 255 * torch.tensor(preprocessing.deviation, device=device).view(-1, 1, 1)
        self.augmentation = augmentation
        if augmentation is not None:
            border = np.concatenate(
                [
                    split.pictures[..., 0, :],
                    split.pictures[..., -1, :],
                    split.pictures[..., 0],
                    split.pictures[..., -1],
                ],
                axis=-1,
            )
            # What moves in from outside the picture: most often what its edge shows.
            self.fill = torch.tensor(np.median(border, axis=(0, 2)), dtype=torch.float32, device=device).view(-1, 1, 1)
            self.grid = pixel_grid(split.pictures.shape[-1]).to(device)

    def __len__(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(len(self.labels), self.batch_size)
        return whole + (rest > 1 or not whole)

    def order(self, epoch: int) -> Tensor:
        """The pictures' indices in the order of that epoch."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, epoch))
        return torch.randperm(len(self.labels), generator=generator).to(self.device)

    def batch(self, order: Tensor, epoch: int, step: int) -> Batch:
        """The batch of that step of an epoch, changed at random as the augmentation says."""
        indices = order[self._places(step)]
        if self.augmentation is None or self.augmentation == Augmentation():
            return self._plain(indices)
        generator = torch.Generator().manual_seed(derived_seed(self.seed, epoch, step))
        pictures = self.pictures.index_select(0, indices) - self.fill
        maps = affine_maps(len(indices), self.augmentation, pictures.shape[-1], generator).to(self.device)
        changed = warp(pictures, maps, self.grid)
        return self._normalised(changed, self.mean - self.fill, indices)

    def sample(self, order: Tensor, num: int) -> Batch:
        """The first `num` pictures of an order, unchanged."""
        return self._plain(order[:num])

    def in_order(self, step: int) -> Batch:
        """The batch of that step in the set's own order, unchanged."""
        return self._plain(self._places(step))

    def _places(self, step: int) -> slice:
        last = step == len(self) - 1
        return slice(step * self.batch_size, None if last else (step + 1) * self.batch_size)

    def _plain(self, indices: Tensor | slice) -> Batch:
        return self._normalised(self.pictures[indices].float(), self.mean, indices)

    def _normalised(self, pictures: Tensor, mean: Tensor, indices: Tensor | slice) -> Batch:
        inputs = pictures.sub_(mean).div_(self.deviation)
        # Channels last is what convolutions are fastest with, on CPUs and GPUs.
        return Batch(inputs.to(memory_format=torch.channels_last), self.labels[indices])


def pixel_grid(side: int) -> Tensor:
    """Homogeneous coordinates (3, side * side) of pixel centres; the picture spans -1 to 1."""
    centres = (2 * torch.arange(side, dtype=torch.float32) + 1) / side - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x.flatten(), y.flatten(), torch.ones(side * side)])


def affine_maps(num: int, augmentation: Augmentation, side: int, generator: torch.Generator) -> Tensor:
    """Random maps (num, 2, 3) from places in the changed picture to places in the given one."""
    draws = torch.empty(7, num).uniform_(-1, 1, generator=generator)
    scale = 1 + augmentation.scale * draws[0]
    squeeze = 1 + augmentation.squeeze * draws[1]
    shear = augmentation.shear * draws[2]
    angle = torch.deg2rad(augmentation.rotation * draws[3])
    # One unit is half the side. Whole pixels, so that a mere shift does not blur.
    shift = (augmentation.shift * side * draws[4:6]).round() * (2 / side)
    mirror = torch.where(draws[6] < 0, -1.0, 1.0) if augmentation.flip else torch.ones(num)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    rows = [
        cos * squeeze * mirror, (cos * shear - sin) / squeeze, shift[0],
        sin * squeeze * mirror, (sin * shear + cos) / squeeze, shift[1],
    ]  # fmt: skip
    return torch.stack(rows, dim=1).view(num, 2, 3)


def warp(pictures: Tensor, maps: Tensor, grid: Tensor) -> Tensor:
    """Each picture (num, channels, side, side) under its map, bilinear, 0 from outside."""
    num, _, side, _ = pictures.shape
    # One product for the whole batch; affine_grid multiplies many tiny matrices and takes ten times as long.
    places = (maps.view(2 * num, 3) @ grid).view(num, 2, side, side).permute(0, 2, 3, 1)
    return F.grid_sample(pictures, places, mode="bilinear", padding_mode="zeros", align_corners=False)
