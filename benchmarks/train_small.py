"""How fast is a training epoch on small images, against the loop that most people write?

    python benchmarks/train_small.py

One epoch of MNIST with `lenet5-modern`, batch size 128; both sides augment with random shifts, scaling, shear and
rotation. The other side is a `Dataset` that augments, converts and normalizes one image at a time under a `DataLoader`,
and a plain loop, without workers and with two. It comes in two kinds: `lean` is written here with Pillow and does
nothing that could be left out; `torchvision` is what its documentation shows (transforms.v2). The figures are images
per second; reading the data set is not timed.

torchvision is not a dependency; `pip install --no-deps torchvision` is enough, and without it its loops are left out.
"""

from __future__ import annotations

import importlib.util
import math
import sys
import tempfile
import time
from pathlib import Path

import measured
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import convatlas as ca
from convatlas import data
from convatlas.training.recipes import CHARACTERS

ROUNDS = 5
BATCH_SIZE = 128
ENGINES = ["convatlas", "lean-0", "lean-2"]
if importlib.util.find_spec("torchvision"):
    ENGINES += ["torchvision-0", "torchvision-2"]


def uniform(limit: float) -> float:
    """A number from -limit to limit, drawn as torchvision draws its parameters."""
    return float(torch.empty(1).uniform_(-limit, limit).item())


class Lean(Dataset[tuple[Tensor, int]]):
    """One image at a time: an affine transform, to a tensor, normalized."""

    def __init__(self, split: data.Split) -> None:
        self.images, self.labels = split.images[:], split.labels
        self.mean = self.images.mean() / 255
        self.std = self.images.std() / 255

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index, 0])
        changed = image.transform(image.size, Image.Transform.AFFINE, self.matrix(28), Image.Resampling.BILINEAR)
        tensor = torch.from_numpy(np.array(changed, copy=True)).view(28, 28, 1).permute(2, 0, 1).contiguous()
        tensor = tensor.to(torch.float32).div(255)
        mean = torch.as_tensor([self.mean], dtype=tensor.dtype).view(-1, 1, 1)
        std = torch.as_tensor([self.std], dtype=tensor.dtype).view(-1, 1, 1)
        return tensor.clone().sub_(mean).div_(std), int(self.labels[index])

    def matrix(self, side: int) -> tuple[float, ...]:
        """A random affine map about the center, from pixels of the output to pixels of the input."""
        augmentation = CHARACTERS.augmentation
        angle, shear = math.radians(uniform(augmentation.rotation)), uniform(augmentation.shear)
        scale, squeeze = 1 + uniform(augmentation.scale), 1 + uniform(augmentation.squeeze)
        shift_x, shift_y = (round(uniform(augmentation.shift) * side) for _ in range(2))
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        a, b, c, d = cos * squeeze, (cos * shear - sin) / squeeze, sin * squeeze, (sin * shear + cos) / squeeze
        center = side / 2
        return (
            a, b, center - a * center - b * center + shift_x,
            c, d, center - c * center - d * center + shift_y,
        )  # fmt: skip


class Torchvision(Dataset[tuple[Tensor, int]]):
    """The same with torchvision's transforms, which have no squeezing."""

    def __init__(self, split: data.Split) -> None:
        measured.allow_torchvision()
        from torchvision.transforms import v2

        augmentation = CHARACTERS.augmentation
        self.images, self.labels = split.images[:], split.labels
        self.transform = v2.Compose(
            [
                v2.RandomAffine(
                    augmentation.rotation,
                    translate=(augmentation.shift, augmentation.shift),
                    scale=(1 - augmentation.scale, 1 + augmentation.scale),
                    shear=math.degrees(math.atan(augmentation.shear)),
                    interpolation=v2.InterpolationMode.BILINEAR,
                ),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([self.images.mean() / 255], [self.images.std() / 255]),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index, 0])), int(self.labels[index])


def usual_loop(images: Dataset[tuple[Tensor, int]], num_images: int, num_workers: int) -> float:
    """Images per second of an epoch."""
    torch.manual_seed(0)
    network = ca.create("lenet5-modern", resolution=28)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()
    loader = DataLoader(images, batch_size=BATCH_SIZE, shuffle=True, num_workers=num_workers)
    network.train()
    start = time.perf_counter()
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = criterion(network(inputs), labels)
        loss.backward()
        optimizer.step()
    return num_images / (time.perf_counter() - start)


def ours() -> float:
    """Images per second of `convatlas.train`, checkpoints and metrics included."""
    with tempfile.TemporaryDirectory() as folder:
        run = ca.train("lenet5-modern", "mnist", epochs=1, batch_size=BATCH_SIZE, out=Path(folder) / "run")
        return run.results.train_images / run.results.seconds


def main() -> None:
    if len(sys.argv) > 1:
        engine = sys.argv[1]
        # The first call of PyTorch's optimizers loads its compiler, outside the timed epoch on both sides.
        warm = nn.Linear(1, 1)
        F.mse_loss(warm(torch.zeros(1, 1)), torch.zeros(1, 1)).backward()
        torch.optim.AdamW(warm.parameters()).step()
        if engine == "convatlas":
            print(ours())
        else:
            split = data.find("mnist").load(28, seed=0).train
            kind, num_workers = engine.split("-")
            images = Lean(split) if kind == "lean" else Torchvision(split)
            print(usual_loop(images, len(split), int(num_workers)))
        return
    figures = measured.in_turn(__file__, ENGINES, ROUNDS)
    ratios = {
        engine: measured.spread([a / b for a, b in zip(figures["convatlas"], figures[engine], strict=True)])
        for engine in ENGINES[1:]
    }
    measured.write(
        "train_small",
        "python benchmarks/train_small.py",
        {
            "images_per_s": {engine: measured.spread(values) for engine, values in figures.items()},
            "times_as_fast_as": ratios,
        },
    )


if __name__ == "__main__":
    main()
