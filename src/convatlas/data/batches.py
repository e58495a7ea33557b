"""Batches, augmented and normalized on the device.

The order of an epoch and the augmentation of a step are pure functions of the seed, the epoch and the step, whatever
the number of processes: nothing of them needs saving, and a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from convatlas.data.augment import PrincipalColors, affine_matrices, mix, pixel_grid, warp
from convatlas.data.dataset import Split
from convatlas.images import ChannelOrder, Preprocessing, pillow_silenced
from convatlas.recipe import Augmentation


class Batch(NamedTuple):
    inputs: Tensor
    """(n, channels, height, width), normalized."""
    targets: Tensor
    """(n, classes), probabilities."""
    labels: Tensor
    """(n,)"""
    indices: Tensor
    """(n,), places in the split, on the CPU."""
    global_batch_size: int
    """Images of the whole batch, over all processes."""


class Shard(NamedTuple):
    """Which part of each batch is this process's, of those that train together."""

    rank: int = 0
    num_shards: int = 1
    """How many processes there are."""

    def part(self, num: int) -> slice:
        """This process's places in a batch of `num`; the parts differ by one image at most."""
        return slice(num * self.rank // self.num_shards, num * (self.rank + 1) // self.num_shards)


def derived_seed(*parts: int | str) -> int:
    """A seed of 64 bits from any numbers and words."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class Batches:
    """A split in batches of `batch_size`, of which this process gets its shard; the last batch may be smaller.

    If fewer than two images would be left for each process, they join the batch before: batch normalization needs two.
    Batches that are not augmented hold exactly what `Preprocessing.prepare` makes of the same images, to the bit.

    Args:
        split: images with sides of `preprocessing.resize` pixels.
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        *,
        num_classes: int,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        label_smoothing: float = 0.0,
        shard: Shard | None = None,
    ) -> None:
        self.split = split
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        self.label_smoothing = label_smoothing
        self.shard = shard or Shard()
        self.resolution = preprocessing.crop
        self.margin = preprocessing.margin
        self.is_bgr = preprocessing.channel_order is ChannelOrder.BGR
        self.labels = torch.tensor(split.labels, device=device)
        self.mean = torch.from_numpy(preprocessing.pixel_mean).to(device)
        self.std = torch.from_numpy(preprocessing.pixel_std).to(device)
        self.resident: Tensor | None = None
        """All images (n, channels, height, width) on the device, if the split holds them in memory; otherwise None."""
        if type(split.images) is np.ndarray:
            # torch.tensor copies into torch's own, aligned memory: the same arithmetic whatever numpy's alignment.
            self.resident = self._ordered(torch.tensor(split.images, device=device))
        self.augmentation = None if augmentation == Augmentation() else augmentation
        if self.augmentation is not None:
            sample = split.reader.sample()
            if self.is_bgr:
                sample = sample[:, ::-1]
            border = np.concatenate([sample[..., 0, :], sample[..., -1, :], sample[..., 0], sample[..., -1]], axis=-1)
            # What moves in from outside the image: the median color of the images' edges.
            self.fill = torch.tensor(np.median(border, axis=(0, 2)), dtype=torch.float32, device=device).view(-1, 1, 1)
            self.grid = pixel_grid(self.augmentation.side_for(self.resolution)).to(device)
            self.colors = PrincipalColors.of(sample) if self.augmentation.lighting else None

    def __len__(self) -> int:
        """Batches of an epoch."""
        whole, rest = divmod(len(self.split), self.batch_size)
        return whole + (rest >= 2 * self.shard.num_shards or not whole)

    def order(self, epoch: int) -> Tensor:
        """The images' indices (n,) in the order of that epoch, on the CPU."""
        return torch.from_numpy(self.split.reader.order(derived_seed(self.seed, epoch)))

    def places(self, epoch: int, start: int = 0) -> list[tuple[Tensor, int]]:
        """This process's indices (n,) and the whole batch's size, for each step of an epoch from `start` on."""
        order = self.order(epoch)
        whole = [self._of_step(order, step) for step in range(start, len(self))]
        return [(indices[self.shard.part(len(indices))], len(indices)) for indices in whole]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on, augmented."""
        places = self.places(epoch, start)
        if self.resident is not None:
            for step, (own, num) in enumerate(places, start):
                yield self._augmented(own, num, epoch, step, self._pixels(own))
            return
        # While the network learns from one batch, the next is read and decoded.
        reading = map(self._moved, self.split.reader.read([own.numpy() for own, _ in places]))
        with pillow_silenced(), ThreadPoolExecutor(1) as pool:
            pending = pool.submit(next, reading)
            for step, (own, num) in enumerate(places, start):
                images = pending.result()
                # After the last batch there is no next one; nobody asks for this result then.
                pending = pool.submit(next, reading)
                yield self._augmented(own, num, epoch, step, images)

    def in_order(self, step: int) -> Batch:
        """The batch of that step in the split's order, not augmented; this process's shard of it may be empty."""
        whole = self._of_step(torch.arange(len(self.split)), step)
        return self.plain(whole[self.shard.part(len(whole))])

    def sample(self, epoch: int, num: int) -> Batch:
        """The first `num` images of an epoch, not augmented."""
        return self.plain(self.order(epoch)[:num])

    def plain(self, indices: Tensor) -> Batch:
        """The batch of the images with these indices (n,), not augmented, with one-hot targets."""
        inputs = self._centered(self._pixels(indices))
        labels = self.labels[indices.to(self.device)]
        return Batch(inputs, F.one_hot(labels, self.num_classes).float(), labels, indices, len(indices))

    def labels_and_targets(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Labels (n,) of those images, and targets (n, classes) with label smoothing."""
        labels = self.labels[indices.to(self.device)]
        targets = F.one_hot(labels, self.num_classes).float()
        return labels, targets.lerp(torch.full_like(targets, 1 / self.num_classes), self.label_smoothing)

    def _of_step(self, order: Tensor, step: int) -> Tensor:
        return order[step * self.batch_size : None if step == len(self) - 1 else (step + 1) * self.batch_size]

    def _pixels(self, indices: Tensor) -> Tensor:
        """The images (n, channels, resize, resize), 0 to 255, in the network's channel order, on the device."""
        if self.resident is not None:
            return self.resident[indices.to(self.device)]
        return self._moved(self.split.images[indices.numpy()])

    def _moved(self, images: npt.NDArray[np.uint8]) -> Tensor:
        moved = torch.from_numpy(np.ascontiguousarray(images))
        if self.device.type == "cuda":
            return self._ordered(moved.pin_memory().to(self.device, non_blocking=True))
        return self._ordered(moved.to(self.device))

    def _ordered(self, images: Tensor) -> Tensor:
        """RGB images in the network's channel order."""
        return images.flip(1) if self.is_bgr else images

    def _augmented(self, own: Tensor, num: int, epoch: int, step: int, images: Tensor) -> Batch:
        labels, targets = self.labels_and_targets(own)
        if self.augmentation is None:
            return Batch(self._centered(images), targets, labels, own, num)
        generator = np.random.default_rng(derived_seed(self.seed, epoch, step))
        part = self.shard.part(num)
        maps = affine_matrices(num, self.augmentation, self.resolution, images.shape[-1], generator)
        augmented = warp(images - self.fill, maps[part].to(self.device), self.grid)
        if self.colors is not None:
            augmented += self.colors.shifts(num, self.augmentation.lighting, generator)[part].to(self.device)
        inputs = self._normalized(augmented, self.mean - self.fill)
        return Batch(inputs, mix(inputs, targets, self.augmentation, generator), labels, own, num)

    def _centered(self, images: Tensor) -> Tensor:
        """Network inputs of the center crop of images (n, channels, resize, resize)."""
        center = slice(self.margin, self.margin + self.resolution)
        return self._normalized(images[..., center, center].float(), self.mean)

    def _normalized(self, images: Tensor, mean: Tensor) -> Tensor:
        # Channels last is what convolutions are fastest with, on CPUs and GPUs.
        return images.sub_(mean).div_(self.std).contiguous(memory_format=torch.channels_last)
