"""Batches, made whole on the device from bytes.

The order of an epoch and the random changes of a step are pure functions of the seed, the epoch and the step, whatever
the number of processes: nothing of them needs saving, and a resumed run sees what the unbroken one would have seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from convatlas.data.augment import Colors, affine_maps, mix, pixel_grid, warp
from convatlas.data.dataset import Split
from convatlas.data.stream import SAMPLED, Stream
from convatlas.images import Preprocessing, pillow_silenced
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
    num_in_all: int
    """Of the whole batch, over all processes."""


class Shard(NamedTuple):
    """Which of the processes that train together this one is."""

    rank: int = 0
    of: int = 1

    def part(self, num: int) -> slice:
        """The places of a batch of `num` that fall to this process; their numbers differ by one at most."""
        return slice(num * self.rank // self.of, num * (self.rank + 1) // self.of)


def derived_seed(*parts: int | str) -> int:
    """A seed of 64 bits for each combination of numbers and words."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class Batches:
    """A split, cut into batches of `batch_size`, of which this process gets its shard; the last may be smaller.

    Where fewer than two images would be left for each process, they join the batch before: batch normalization has
    nothing to compare a single one with.
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
        self.resolution = preprocessing.resolution
        self.labels = torch.tensor(split.labels, device=device)
        self.mean = 255 * torch.tensor(preprocessing.mean, device=device).view(-1, 1, 1)
        self.deviation = 255 * torch.tensor(preprocessing.deviation, device=device).view(-1, 1, 1)
        self.resident: Tensor | None = None
        """All images on the device, where they are in memory anyhow."""
        if type(split.images) is np.ndarray:
            # torch.tensor copies into torch's own, aligned memory: the same arithmetic whatever numpy's alignment.
            self.resident = torch.tensor(split.images, device=device)
        self.augmentation = None if augmentation == Augmentation() else augmentation
        if self.augmentation is not None:
            whole = split.images
            # Evenly over the split: enough for the colors of its borders and of all of it.
            sample = whole.sample if isinstance(whole, Stream) else whole[:: max(1, len(split) // SAMPLED)]
            border = np.concatenate([sample[..., 0, :], sample[..., -1, :], sample[..., 0], sample[..., -1]], axis=-1)
            # What moves in from outside the image: most often what its edge shows.
            self.fill = torch.tensor(np.median(border, axis=(0, 2)), dtype=torch.float32, device=device).view(-1, 1, 1)
            self.grid = pixel_grid(self.augmentation.side_for(self.resolution)).to(device)
            self.colors = Colors.of(sample) if self.augmentation.lighting else None

    def __len__(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(len(self.split), self.batch_size)
        return whole + (rest >= 2 * self.shard.of or not whole)

    def order(self, epoch: int) -> Tensor:
        """The images' indices (n,) in the order of that epoch, on the CPU."""
        seed = derived_seed(self.seed, epoch)
        if isinstance(self.split.images, Stream):
            return torch.from_numpy(self.split.images.order(seed))
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(len(self.split), generator=generator)

    def places(self, epoch: int, start: int = 0) -> list[tuple[Tensor, int]]:
        """For each step of an epoch from `start` on: this process's indices (n,), and how many are in the batch."""
        order = self.order(epoch)
        whole = [self._of_step(order, step) for step in range(start, len(self))]
        return [(indices[self.shard.part(len(indices))], len(indices)) for indices in whole]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on, each changed at random as the augmentation says."""
        places = self.places(epoch, start)
        if self.resident is not None:
            for step, (own, num) in enumerate(places, start):
                yield self._changed(own, num, epoch, step, self._bytes(own))
            return
        # While one batch is learned, the next is read and decoded.
        reading = self._reading([own for own, _ in places])
        with pillow_silenced(), ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(next, reading)
            for step, (own, num) in enumerate(places, start):
                images = coming.result()
                # After the last there is none, which nobody asks this one for.
                coming = ahead.submit(next, reading)
                yield self._changed(own, num, epoch, step, images)

    def in_order(self, step: int) -> Batch:
        """The batch of that step in the set's own order, unchanged; this process's shard of it may be empty."""
        whole = self._of_step(torch.arange(len(self.split)), step)
        return self.plain(whole[self.shard.part(len(whole))])

    def sample(self, epoch: int, num: int) -> Batch:
        """The first `num` images of an epoch, unchanged."""
        return self.plain(self.order(epoch)[:num])

    def plain(self, indices: Tensor) -> Batch:
        """Those images (n,), unchanged, with certain targets."""
        inputs = self._unchanged(self._bytes(indices))
        labels = self.labels[indices.to(self.device)]
        return Batch(inputs, F.one_hot(labels, self.num_classes).float(), labels, indices, len(indices))

    def labels_and_targets(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Labels (n,) of those images, and targets (n, classes) with label smoothing."""
        labels = self.labels[indices.to(self.device)]
        targets = F.one_hot(labels, self.num_classes).float()
        return labels, targets.lerp(torch.full_like(targets, 1 / self.num_classes), self.label_smoothing)

    def _of_step(self, order: Tensor, step: int) -> Tensor:
        return order[step * self.batch_size : None if step == len(self) - 1 else (step + 1) * self.batch_size]

    def _bytes(self, indices: Tensor) -> Tensor:
        """The images (n, channels, frame, frame) as they lie in the split, on the device."""
        if self.resident is not None:
            return self.resident[indices.to(self.device)]
        return self._moved(self.split.images[indices.numpy()])

    def _reading(self, wanted: Sequence[Tensor]) -> Iterator[Tensor]:
        """What `_bytes` gives for each of these indices (n,) in turn."""
        if isinstance(self.split.images, Stream):
            return map(self._moved, self.split.images.read([indices.numpy() for indices in wanted]))
        return map(self._bytes, wanted)

    def _moved(self, images: npt.NDArray[np.uint8]) -> Tensor:
        """The same on the device."""
        moved = torch.from_numpy(np.ascontiguousarray(images))
        if self.device.type == "cuda":
            return moved.pin_memory().to(self.device, non_blocking=True)
        return moved.to(self.device)

    def _changed(self, own: Tensor, num: int, epoch: int, step: int, images: Tensor) -> Batch:
        labels, targets = self.labels_and_targets(own)
        if self.augmentation is None:
            return Batch(self._unchanged(images), targets, labels, own, num)
        generator = np.random.default_rng(derived_seed(self.seed, epoch, step))
        part = self.shard.part(num)
        maps = affine_maps(num, self.augmentation, self.resolution, images.shape[-1], generator)
        changed = warp(images - self.fill, maps[part].to(self.device), self.grid)
        if self.colors is not None:
            changed += self.colors.moved(num, self.augmentation.lighting, generator)[part].to(self.device)
        inputs = self._normalized(changed, self.mean - self.fill)
        return Batch(inputs, mix(inputs, targets, self.augmentation, generator), labels, own, num)

    def _unchanged(self, images: Tensor) -> Tensor:
        """Network inputs of the middle of images (n, channels, frame, frame)."""
        margin = (images.shape[-1] - self.resolution) // 2
        middle = slice(margin, margin + self.resolution)
        return self._normalized(images[..., middle, middle].float(), self.mean)

    def _normalized(self, images: Tensor, mean: Tensor) -> Tensor:
        # Channels last is what convolutions are fastest with, on CPUs and GPUs.
        return images.sub_(mean).div_(self.deviation).contiguous(memory_format=torch.channels_last)
