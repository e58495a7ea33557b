"""How small do trained networks get, and what does it cost them?

    python benchmarks/compress.py [ROW...] [--out FOLDER]

Each row trains a network with the default recipe, as `convatlas train` does, and makes it smaller, as
`convatlas compress` does; test accuracy before and after in points, sizes in bytes of the file against 32 bits a
parameter, times of a single image in turn (of compiled networks where 8 bits are computed in 8). A training or stage
that is in the folder (`runs/compress`) already is not done again. With names of rows, only these are measured, and the
others stay as they are. At the end stands what was wanted; if a row missed it, the status is 1. All of it takes about
four hours on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import measured
import torch
from torch import Tensor

from convatlas.compression.compress import Compression, compress
from convatlas.compression.destination import SMALL_FILE
from convatlas.compression.int8 import compiled, to_int8
from convatlas.compression.latency import latencies
from convatlas.compression.stages import FineTuning, TrainedModel
from convatlas.compression.target import SizeTarget
from convatlas.models.codec.container import SUFFIX
from convatlas.models.codec.update import write_update
from convatlas.models.evaluation import evaluation_batches
from convatlas.models.model import open_model
from convatlas.runs.options import Distillation, WeightConstraint
from convatlas.runs.run import Run, read_metrics
from convatlas.spec import Scale
from convatlas.training import Progress, Request, train_or_resume

TURNS = 51
FLOAT_BYTES = 4


class Row(NamedTuple):
    name: str
    network: str
    data: str
    lost: float
    """Points of accuracy that may be lost at most."""
    epochs: int
    """Of training after each change."""
    times_smaller: float = 0.0
    """Than its parameters at 32 bits, at least."""
    times_faster: float = 0.0
    prune: float | None = None
    int8: bool = False
    bits: float | None = None
    rounds: int = 3
    width: float = 1.0
    learned: int | None = None
    """Epochs of the network itself; None: the default recipe's."""


ROWS = (
    Row("half the MACs", "resnet20-cifar", "fashion-mnist", 0.5, 5, times_faster=1.4, prune=0.5),
    Row("int8", "resnet20-cifar", "fashion-mnist", 0.3, 3, int8=True),
    Row("4 bits", "resnet20-cifar", "fashion-mnist", 0.5, 3, bits=4),
    Row("Deep Compression of LeNet", "lenet5-modern", "mnist", 0.1, 12, times_smaller=30, bits=3),
    # An epoch takes five minutes.
    Row(
        "Deep Compression of SqueezeNet",
        "squeezenet",
        "fashion-mnist",
        0.5,
        2,
        times_smaller=7,
        bits=4,
        rounds=1,
        learned=8,
    ),
    Row("Deep Compression of AlexNet", "alexnet", "digits", 0.5, 8, times_smaller=35, bits=4, rounds=2),
    Row("Deep Compression of VGG", "vgg16", "digits", 0.5, 5, times_smaller=45, bits=4, rounds=2, learned=30),
)
DISTILLATION = "distillation"


class Student(NamedTuple):
    """A network of about a quarter of the teacher's parameters, trained alone and with the teacher."""

    network: str
    width: float
    epochs: int
    temperature: float = 2.0
    seeds: int = 1


TEACHER, TAUGHT_DATA = "resnet20-cifar", "fashion-mnist"
STUDENTS = (
    # The goal is this one's.
    Student("resnet20-cifar", 0.5, 10, seeds=3),
    # The same at another temperature; longer; and another network.
    Student("resnet20-cifar", 0.5, 10, temperature=1.0, seeds=2),
    Student("resnet20-cifar", 0.5, 20),
    Student("lenet5-modern", 1.0, 20),
)
GAIN = 0.5
UPDATE = "update"
UPDATE_SEED = 3
"""Another than the network's own."""
PART_ALLOWED = 0.3


class Lines(Progress):
    def say(self, line: str) -> None:
        print(line, flush=True)


def trained(folder: Path, request: Request) -> Run:
    return train_or_resume(request, folder, Lines())


def speedup(before: TrainedModel, after: TrainedModel, compiling: bool) -> float:
    """Of the latency for one image."""
    took = latencies((before, after), compiling=compiling, repeats=TURNS)
    return took[0].median_s / took[1].median_s


@torch.no_grad()
def int8_accuracy(source: TrainedModel) -> float:
    """The test accuracy of the network as it computes in 8 bits."""
    card = source.model.card
    batches = evaluation_batches(card, source.load_data().test, torch.device("cpu"))
    networks: dict[int, Callable[[Tensor], Tensor]] = {}
    correct = total = 0
    for step in range(len(batches)):
        batch = batches.in_order(step)
        num = len(batch.labels)
        if num not in networks:
            int8 = to_int8(source.network, card.quantization or (), batch.inputs)
            networks[num] = compiled(int8, batch.inputs)
        correct += int((networks[num](batch.inputs).argmax(1) == batch.labels).sum())
        total += num
    return correct / total


def folder_of(row: Row) -> str:
    return row.name.replace(" ", "-").lower()


def shrunk(row: Row, out: Path) -> dict[str, Any]:
    request = Request(network=row.network, data=row.data, scale=Scale(width=row.width), epochs=row.learned)
    run = trained(out / f"{row.network}-{row.data}", request)
    full = FLOAT_BYTES * run.card.params
    target = SizeTarget(full / row.times_smaller) if row.times_smaller else None
    made: Compression = compress(
        run,
        target,
        out / folder_of(row),
        prune=row.prune,
        int8=row.int8,
        bits=row.bits,
        rounds=row.rounds,
        # The original is the teacher.
        fine_tuning=FineTuning(epochs=row.epochs, distillation=Distillation(teacher=str(run.folder)), progress=Lines()),
    )
    last, score = made.stages[-1], made.model.card.score
    assert score is not None
    original, smallest = TrainedModel.of(run), replace(TrainedModel.of(run), model=made.model)
    return {
        "network": row.network,
        "data": row.data,
        "width": row.width,
        "params": run.card.params,
        "epochs": run.results.epochs,
        "rounds": row.rounds,
        "epochs_of_a_tuning": row.epochs,
        "bits": row.bits,
        "accuracy_before": run.test_accuracy,
        "accuracy_after": score.accuracy,
        "points_lost": round(100 * (run.test_accuracy - score.accuracy), 3),
        "points_allowed": row.lost,
        "bytes": last.num_bytes,
        "times_smaller": round(full / last.num_bytes, 2),
        "times_smaller_wanted": row.times_smaller,
        "macs_before": run.card.macs,
        "macs": made.model.card.macs,
        "times_faster": round(speedup(original, smallest, row.int8), 2),
        "times_faster_wanted": row.times_faster,
        "date": date.today().isoformat(),
    } | ({"int8_accuracy": int8_accuracy(smallest)} if row.int8 else {})


def distilled(out: Path) -> dict[str, Any]:
    """What students gain by a teacher, in points, for each seed."""
    teacher = trained(out / f"{TEACHER}-{TAUGHT_DATA}", Request(network=TEACHER, data=TAUGHT_DATA))
    students = [taught(teacher, student, out) for student in STUDENTS]
    return {
        "network": TEACHER,
        "data": TAUGHT_DATA,
        "accuracy": teacher.test_accuracy,
        "students": students,
        "wanted": GAIN,
        "date": date.today().isoformat(),
    }


def taught(teacher: Run, student: Student, out: Path) -> dict[str, Any]:
    distillation = Distillation(teacher=str(teacher.folder), temperature=student.temperature)
    pairs = []
    for seed in range(student.seeds):
        scale = Scale(width=student.width)
        request = Request(network=student.network, data=TAUGHT_DATA, scale=scale, epochs=student.epochs, seed=seed)
        folder = out / f"{student.network}-{student.width:g}-{student.epochs}-epochs-{seed}"
        with_teacher = folder.with_name(f"{folder.name}-taught-{student.temperature:g}")
        pairs.append((trained(folder, request), trained(with_teacher, replace(request, distillation=distillation))))
    gains = [100 * (taught.test_accuracy - alone.test_accuracy) for alone, taught in pairs]
    return {
        "student": student.network,
        **{name: value for name, value in student._asdict().items() if name != "network"},
        "part_of_parameters": round(pairs[0][0].card.params / teacher.card.params, 3),
        # On augmented images: what the student is too small, or had too little time, to fit.
        "training_accuracy": [round(read_metrics(alone)[-1]["accuracy"], 4) for alone, _ in pairs],
        "accuracy": [alone.test_accuracy for alone, _ in pairs],
        "accuracy_taught": [taught.test_accuracy for _, taught in pairs],
        "points_gained": [round(gain, 2) for gain in gains],
        "mean": round(statistics.fmean(gains), 3),
    }


def updated(out: Path) -> dict[str, Any]:
    """The size of an update to the next version of a network: LeNet's, after another epoch."""
    row = next(row for row in ROWS if row.network == "lenet5-modern")
    shrunk(row, out)
    old = out / folder_of(row) / SMALL_FILE
    source = TrainedModel.of(open_model(old))
    learned = FineTuning(epochs=1, progress=Lines())(
        source, WeightConstraint.SHARED, out / "update-learned", seed=UPDATE_SEED
    )
    new = out / f"update{SUFFIX}"
    learned.model.save(new)
    update = write_update(old, new, out / "update.cvu")
    sizes = {name: path.stat().st_size for name, path in (("old", old), ("new", new), ("update", update))}
    return {
        "network": row.network,
        "data": row.data,
        "bytes": sizes,
        "part_of_new": round(sizes["update"] / sizes["new"], 3),
        "part_allowed": PART_ALLOWED,
        "date": date.today().isoformat(),
    }


FIGURES = ("points lost", "times smaller", "times as fast")


def targets(name: str, figures: Mapping[str, Any]) -> list[measured.Target]:
    """What was wanted of a row; nothing stands for no wish."""
    if name == DISTILLATION:
        first = figures["students"][0]
        return [measured.Target(f"{name}: points that the first student gains", first["mean"], figures["wanted"], True)]
    if name == UPDATE:
        return [measured.Target(f"{name}: part of the new file", figures["part_of_new"], figures["part_allowed"])]
    lost, smaller, faster = (f"{name}: {figure}" for figure in FIGURES)
    asked = [
        measured.Target(smaller, figures["times_smaller"], figures["times_smaller_wanted"], True),
        measured.Target(faster, figures["times_faster"], figures["times_faster_wanted"], True),
    ]
    return [
        measured.Target(lost, figures["points_lost"], figures["points_allowed"]),
        *(target for target in asked if target.wanted),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("runs") / "compress")
    asked = parser.parse_args()
    path = measured.RESULTS / "compress.json"
    known = json.loads(path.read_text())["rows"] if path.exists() else {}
    works: dict[str, Callable[[], dict[str, Any]]] = {row.name: partial(shrunk, row, asked.out) for row in ROWS}
    works |= {DISTILLATION: partial(distilled, asked.out), UPDATE: partial(updated, asked.out)}
    chosen = [name for name in works if not asked.rows or name in asked.rows]
    for name in chosen:
        known[name] = works[name]()
        # Each is kept as it comes: the whole takes long.
        ordered = {name: known[name] for name in works if name in known}
        measured.write("compress", "python benchmarks/compress.py", {"rows": ordered})
    measured.judge([target for name in chosen for target in targets(name, known[name])])


if __name__ == "__main__":
    main()
