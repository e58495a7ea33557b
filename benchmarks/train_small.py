"""How fast is a training epoch on small pictures, against the loop that most people write?

    python benchmarks/train_small.py

One epoch of MNIST with `lenet5-modern`, batch 128, the same random shifts, scaling, squeezing, shear and rotation on
both sides. The other side is the usual one: a `Dataset` that changes, converts and normalises one picture at a time
with Pillow, as torchvision's RandomAffine, ToTensor and Normalize do it, under a `DataLoader`, and a plain loop. It
runs without workers and with two, and its best counts. Pictures a second; reading the data set is in neither.
"""

from __future__ import annotations

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
from convatlas.training.recipes import DEFAULT

ROUNDS = 5
BATCH_SIZE = 128
ENGINES = ("convatlas", "loader-0", "loader-2")


def uniform(limit: float) -> float:
    """As torchvision draws its parameters."""
    return float(torch.empty(1).uniform_(-limit, limit).item())


class PerPicture(Dataset[tuple[Tensor, int]]):
    """One picture at a time: affine change, tensor, normalised."""

    def __init__(self, split: data.Split) -> None:
        self.split = split
        self.mean = split.pictures.mean() / 255
        self.deviation = split.pictures.std() / 255

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.split.pictures[index, 0])
        changed = picture.transform(picture.size, Image.Transform.AFFINE, self.matrix(28), Image.Resampling.BILINEAR)
        tensor = torch.from_numpy(np.array(changed, copy=True)).view(28, 28, 1).permute(2, 0, 1).contiguous()
        tensor = tensor.to(torch.float32).div(255)
        mean = torch.as_tensor([self.mean], dtype=tensor.dtype).view(-1, 1, 1)
        deviation = torch.as_tensor([self.deviation], dtype=tensor.dtype).view(-1, 1, 1)
        return tensor.clone().sub_(mean).div_(deviation), int(self.split.labels[index])

    def matrix(self, side: int) -> tuple[float, ...]:
        """From places in the changed picture to places in the given one, about its centre."""
        change = DEFAULT.augmentation
        angle, shear = math.radians(uniform(change.rotation)), uniform(change.shear)
        scale, squeeze = 1 + uniform(change.scale), 1 + uniform(change.squeeze)
        shift_x, shift_y = round(uniform(change.shift) * side), round(uniform(change.shift) * side)
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        a, b, c, d = cos * squeeze, (cos * shear - sin) / squeeze, sin * squeeze, (sin * shear + cos) / squeeze
        centre = side / 2
        return (
            a, b, centre - a * centre - b * centre + shift_x,
            c, d, centre - c * centre - d * centre + shift_y,
        )  # fmt: skip


def usual_loop(split: data.Split, num_workers: int) -> float:
    """Pictures a second."""
    torch.manual_seed(0)
    network = ca.create("lenet5-modern", resolution=28)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()
    loader = DataLoader(PerPicture(split), batch_size=BATCH_SIZE, shuffle=True, num_workers=num_workers)
    network.train()
    begun = time.perf_counter()
    for inputs, labels in loader:
        optimiser.zero_grad()
        loss = criterion(network(inputs), labels)
        loss.backward()
        optimiser.step()
    return len(split) / (time.perf_counter() - begun)


def ours() -> float:
    """Pictures a second of the product itself, checkpoints and metrics included."""
    with tempfile.TemporaryDirectory() as folder:
        run = ca.train("lenet5-modern", data="mnist", epochs=1, batch_size=BATCH_SIZE, out=Path(folder) / "run")
        return run.results.train_pictures / run.results.seconds


def main() -> None:
    if len(sys.argv) > 1:
        engine = sys.argv[1]
        # The first call of PyTorch's optimisers loads its compiler; neither side's epoch is charged with that.
        warm = nn.Linear(1, 1)
        F.mse_loss(warm(torch.zeros(1, 1)), torch.zeros(1, 1)).backward()
        torch.optim.AdamW(warm.parameters()).step()
        if engine == "convatlas":
            print(ours())
        else:
            split = data.find("mnist").load(28, seed=0).train
            print(usual_loop(split, int(engine.removeprefix("loader-"))))
        return
    figures = measured.in_turn(__file__, ENGINES, ROUNDS)
    best = max((e for e in ENGINES if e != "convatlas"), key=lambda engine: measured.spread(figures[engine])["median"])
    ratios = [a / b for a, b in zip(figures["convatlas"], figures[best], strict=True)]
    measured.write(
        "train_small",
        "python benchmarks/train_small.py",
        {
            "pictures_per_s": {engine: measured.spread(values) for engine, values in figures.items()},
            f"ratio_to_{best}": measured.spread(ratios),
        },
    )


if __name__ == "__main__":
    main()
