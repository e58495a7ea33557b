"""How fast do photographs reach the network, against the loader that most people write?

    python benchmarks/pipeline.py

Made photographs of 1600 by 1200 pixels, a random part of each, mirrored or not, 224 pixels for the network, batches
of 32; no network learns. The other side reads, decodes, cuts and normalizes one image at a time in a `Dataset`,
under a `DataLoader` with two workers that stay. It comes in two kinds: `lean` is written here with Pillow and nothing
that could be left out; `torchvision` is its reference training's transforms, as transforms.v2.

Ours begins with an empty cache: its first epoch holds all that a training does from the untouched folder on (headers,
digests, decoding, which takes the few test images too, writing the cache, mean and std of the pixels,
which the others are given, even the network's layer table), and then the batches of the epoch. Mixing of images,
which the usual loader has not, is left out. Imports are in no time, and the files lie in memory, where they were
written just before. Ours cuts its parts from the middle square of a photograph at 256 pixels, the others from all of
it.

torchvision is no dependency; `pip install --no-deps torchvision` is enough, and without it its loader is left out.
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import measured
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from convatlas.data.batches import Shard
from convatlas.files.cache import DECODED
from convatlas.training import Request, recipes
from convatlas.training.distribution import Processes
from convatlas.training.plan import plan, training_batches

ROUNDS = 5
ENGINES = ["convatlas", "lean"]
if importlib.util.find_spec("torchvision"):
    ENGINES.append("torchvision")

CLASSES = 8
TRAIN = 320
"""Photographs, as many of each class; for the test, of which a folder needs some, one of each class."""
SIZE = (1600, 1200)
"""What phones send and web pages show large; a camera's own 12 megapixels take the usual loader six times as long."""
QUALITY = 90
RESOLUTION = 224
BATCH_SIZE = 32
LATER = 2
"""Epochs after the first."""
CHANGES = replace(recipes.PHOTOGRAPHS.augmentation, mixup=0.0, cutmix=0.0)

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What the usual loader takes for photographs."""


def make_photographs(folder: Path) -> None:
    """Write JPEGs into `train` and `test`, a folder for each class."""
    generator = np.random.default_rng(0)
    for label in range(CLASSES):
        field = scene(generator)
        for number in range(TRAIN // CLASSES + 1):
            path = folder / ("train" if number else "test") / f"class-{label}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            # The field has no border: each place in it is another photograph.
            top, left = generator.integers(0, len(field), 2)
            part = np.roll(field, (-top, -left), (0, 1))[: SIZE[1], : SIZE[0]]
            Image.fromarray(part).save(path, quality=QUALITY)
    # What is written to the disk later would be written while an engine is timed.
    os.sync()


def scene(generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Colors (2048, 2048, 3) like clouds and stones: as in nature, the amplitude falls with the frequency."""
    side = 2048
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf

    def noise(steepness: float) -> npt.NDArray[np.float64]:
        spectrum = np.fft.rfft2(generator.standard_normal((side, side))) / frequency**steepness
        field: npt.NDArray[np.float64] = np.fft.irfft2(spectrum)
        field /= field.std()
        return field

    # Brightness has the detail; colors change slowly.
    bright, warm, green = 50 * noise(1.3), 15 * noise(1.6), 10 * noise(1.6)
    mean = generator.uniform(90, 150, 3)
    return (np.stack([bright + warm, bright + green, bright - warm], -1) + mean).clip(0, 255).astype(np.uint8)


def ours(folder: Path) -> list[float]:
    """Seconds of each epoch of the product itself, from the untouched folder on."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ[DECODED] = cache
        begun = time.perf_counter()
        planned = plan(Request(network="resnet18", data=folder, batch_size=BATCH_SIZE), Processes())
        record = replace(planned.record, recipe=replace(planned.record.recipe, augmentation=CHANGES))
        assert planned.card.spec["resolution"] == RESOLUTION
        batches = training_batches(planned.card, record, planned.dataset.train, torch.device("cpu"), Shard())
        return epochs(batches.epoch, begun)


def usual(images: Dataset[tuple[Tensor, int]]) -> list[float]:
    """Seconds of each epoch."""
    torch.manual_seed(0)
    loader = DataLoader(images, BATCH_SIZE, shuffle=True, num_workers=2, persistent_workers=True)
    return epochs(lambda epoch: loader, time.perf_counter())


def epochs(batches: Callable[[int], Iterable[Any]], begun: float) -> list[float]:
    ends = [begun]
    for epoch in range(1 + LATER):
        num = sum(len(batch[0]) for batch in batches(epoch))
        assert num == TRAIN
        ends.append(time.perf_counter())
    return np.diff(ends).tolist()


class Usual(Dataset[tuple[Tensor, int]]):
    """One file at a time: decoded whole, then what `change` makes of it."""

    def __init__(self, folder: Path, change: Callable[[Image.Image], Tensor]) -> None:
        classes = sorted((folder / "train").iterdir())
        self.files = [(path, label) for label, of_class in enumerate(classes) for path in sorted(of_class.iterdir())]
        self.change = change

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.files[index]
        with Image.open(path) as file:
            return self.change(file.convert("RGB")), label


def lean(image: Image.Image) -> Tensor:
    """A random part as torchvision draws it, mirrored or not, and normalized."""
    box = part(*image.size)
    image = image.resize((RESOLUTION, RESOLUTION), Image.Resampling.BILINEAR, box=box)
    if torch.rand(1) < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
    return tensor.sub_(torch.tensor(MEAN).view(3, 1, 1)).div_(torch.tensor(DEVIATION).view(3, 1, 1))


def part(width: int, height: int) -> tuple[int, int, int, int]:
    """A random part, drawn until one lies within the image; all of it, should ten lie outside."""
    for _ in range(10):
        area = width * height * torch.empty(1).uniform_(CHANGES.crop, 1).item()
        limit = math.log(CHANGES.aspect)
        aspect = math.exp(torch.empty(1).uniform_(-limit, limit).item())
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if across <= width and down <= height:
            left = int(torch.randint(width - across + 1, (1,)))
            top = int(torch.randint(height - down + 1, (1,)))
            return left, top, left + across, top + down
    return 0, 0, width, height


def torchvision() -> Callable[[Image.Image], Tensor]:
    """The same with torchvision's transforms."""
    measured.allow_torchvision()
    from torchvision.transforms import v2

    composed: Callable[[Image.Image], Tensor] = v2.Compose(
        [
            v2.RandomResizedCrop(
                RESOLUTION, scale=(CHANGES.crop, 1), ratio=(1 / CHANGES.aspect, CHANGES.aspect), antialias=True
            ),
            v2.RandomHorizontalFlip(0.5),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, DEVIATION),
        ]
    )
    return composed


def main() -> None:
    if len(sys.argv) > 1:
        engine, folder = sys.argv[1], Path(sys.argv[2])
        if engine == "convatlas":
            seconds = ours(folder)
        else:
            seconds = usual(Usual(folder, lean if engine == "lean" else torchvision()))
        print(*(TRAIN / second for second in (seconds[0], sum(seconds[1:]) / LATER)))
        return
    with tempfile.TemporaryDirectory() as written:
        make_photographs(Path(written))
        sizes = [path.stat().st_size for path in Path(written).rglob("*.jpg")]
        figures = measured.lines_in_turn(__file__, ENGINES, ROUNDS, written)
    rows = {}
    for place, name in enumerate(("first_epoch", "later_epochs")):
        rates = {engine: [line[place] for line in lines] for engine, lines in figures.items()}
        rows[name] = {
            "images_per_s": {engine: measured.spread(values) for engine, values in rates.items()},
            "times_as_fast_as": {
                engine: measured.spread([a / b for a, b in zip(rates["convatlas"], rates[engine], strict=True)])
                for engine in ENGINES[1:]
            },
        }
    made = {"training": TRAIN, "size": SIZE, "mean_kilobytes": round(sum(sizes) / len(sizes) / 1000)}
    measured.write("pipeline", "python benchmarks/pipeline.py", {"photographs": made, **rows})


if __name__ == "__main__":
    main()
