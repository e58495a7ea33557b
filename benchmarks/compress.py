"""How small do trained networks get, and what does it cost them?

    python benchmarks/compress.py [ROW...] [--out FOLDER]

Each row trains a network with the default recipe, as `convatlas train` does, and makes it smaller, as
`convatlas compress` does; test accuracy before and after in points, sizes in bytes of the file against 32 bits a
parameter, times of a single image in turn (of compiled networks where 8 bits are computed in 8). A training or stage
that is in the folder (`runs/compress`) already is not done again. With names of rows, only these are measured, and the
others stay as they are. All of it takes about three hours on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import measured
import torch
from torch import Tensor

from convatlas.compression.compress import Compression, compress
from convatlas.compression.int8 import compiled, to_int8
from convatlas.compression.latency import latencies
from convatlas.compression.stages import FineTuning
from convatlas.compression.target import Bytes
from convatlas.models.codec.container import SUFFIX, load_file, pack, unpack
from convatlas.models.codec.update import write_update
from convatlas.runs.options import Distillation, WeightConstraint
from convatlas.runs.run import Run, load
from convatlas.runs.run import read_metrics
from convatlas.training import Progress, Request, finish

TURNS = 51
BIT_BYTES = 4


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


class TrainingSetup(NamedTuple):
    """A student of about a quarter of a network's parameters, alone and taught by it, in so many seeds."""

    student: str
    width: float
    epochs: int
    temperature: float = 2.0
    seeds: int = 1


TEACHER, TAUGHT_DATA = "resnet20-cifar", "fashion-mnist"
LESSONS = (
    # What is wanted is wanted of this one.
    TrainingSetup("resnet20-cifar", 0.5, 10, seeds=3),
    # The same, otherwise taught; longer; and other students.
    TrainingSetup("resnet20-cifar", 0.5, 10, temperature=1.0, seeds=2),
    TrainingSetup("resnet20-cifar", 0.5, 20),
    TrainingSetup("mobilenet", 0.14, 20),
    TrainingSetup("lenet5-modern", 1.0, 20),
)
GAIN = 0.5
UPDATE = "update"
UPDATE_SEED = 3
"""Another than the network's own."""
PART_ALLOWED = 0.3


class Lines(Progress):
    def say(self, line: str) -> None:
        print(line, flush=True)


def trained(folder: Path, network: str, data: str, **given: Any) -> Run:
    return finish(Request(network=network, data=data, **given), folder, Lines())


def times(before: Run, after: Run, compiling: bool) -> float:
    """How many times as fast an image alone is answered."""
    took = latencies((before, after), compiling=compiling, repeats=TURNS)
    return took[0].median_s / took[1].median_s


@torch.no_grad()
def accuracy_in_eight_bits(run: Run) -> float:
    """Of the network as it computes in 8 bits."""
    batches = run.judging(run.load_data().test, torch.device("cpu"))
    answers: dict[int, Callable[[Tensor], Tensor]] = {}
    right = total = 0
    for step in range(len(batches)):
        batch = batches.in_order(step)
        num = len(batch.labels)
        if num not in answers:
            answers[num] = compiled(to_int8(run.network, run.record.low_bits or (), batch.inputs), batch.inputs)
        right += int((answers[num](batch.inputs).argmax(1) == batch.labels).sum())
        total += num
    return right / total


def folder_of(row: Row) -> str:
    return row.name.replace(" ", "-").lower()


def shrunk(row: Row, out: Path) -> dict[str, Any]:
    run = trained(out / f"{row.network}-{row.data}", row.network, row.data, width=row.width, epochs=row.learned)
    full = BIT_BYTES * run.results.params
    target = Bytes(full / row.times_smaller) if row.times_smaller else None
    made: Compression = compress(
        run,
        target,
        out / folder_of(row),
        prune=row.prune,
        int8=row.int8,
        bits=row.bits,
        rounds=row.rounds,
        # The network as it was teaches what is left of it.
        fine_tuning=FineTuning(epochs=row.epochs, distillation=Distillation(teacher=str(run.folder)), progress=Lines()),
    )
    last = made.stages[-1]
    return {
        "network": row.network,
        "data": row.data,
        "width": row.width,
        "params": run.results.params,
        "epochs": run.results.epochs,
        "rounds": row.rounds,
        "epochs_of_a_tuning": row.epochs,
        "bits": row.bits,
        "accuracy_before": run.test_accuracy,
        "accuracy_after": made.run.test_accuracy,
        "points_lost": round(100 * (run.test_accuracy - made.run.test_accuracy), 3),
        "points_allowed": row.lost,
        "bytes": last.num_bytes,
        "times_smaller": round(full / last.num_bytes, 2),
        "times_smaller_wanted": row.times_smaller,
        "macs_before": run.results.macs,
        "macs": made.run.results.macs,
        "times_faster": round(times(run, made.run, row.int8), 2),
        "times_faster_wanted": row.times_faster,
        "date": date.today().isoformat(),
    } | ({"accuracy_in_eight_bits": accuracy_in_eight_bits(made.run)} if row.int8 else {})


def distilled(out: Path) -> dict[str, Any]:
    """What students gain by a teacher, in points, one for each seed."""
    teacher = trained(out / f"{TEACHER}-{TAUGHT_DATA}", TEACHER, TAUGHT_DATA)
    lessons = [learned_from(teacher, lesson, out) for lesson in LESSONS]
    return {
        "network": TEACHER,
        "data": TAUGHT_DATA,
        "accuracy": teacher.test_accuracy,
        "lessons": lessons,
        "wanted": GAIN,
        "date": date.today().isoformat(),
    }


def learned_from(teacher: Run, lesson: TrainingSetup, out: Path) -> dict[str, Any]:
    distillation = Distillation(teacher=str(teacher.folder), temperature=lesson.temperature)
    pairs = []
    for seed in range(lesson.seeds):
        given = {"width": lesson.width, "epochs": lesson.epochs, "seed": seed}
        own = out / f"{lesson.student}-{lesson.width:g}-{lesson.epochs}-epochs-{seed}"
        alone = trained(own, lesson.student, TAUGHT_DATA, **given)
        taught = trained(
            own.with_name(f"{own.name}-taught-{lesson.temperature:g}"),
            lesson.student,
            TAUGHT_DATA,
            distillation=distillation,
            **given,
        )
        pairs.append((alone, taught))
    gains = [100 * (taught.test_accuracy - alone.test_accuracy) for alone, taught in pairs]
    return {
        **lesson._asdict(),
        "part_of_parameters": round(pairs[0][0].results.params / teacher.results.params, 3),
        # Of its own images, as training changes them: what it is too small, or had too little time, to learn.
        "training_accuracy": [round(read_metrics(alone)[-1]["accuracy"], 4) for alone, _ in pairs],
        "accuracy": [alone.test_accuracy for alone, _ in pairs],
        "accuracy_taught": [taught.test_accuracy for _, taught in pairs],
        "points_gained": [round(gain, 2) for gain in gains],
        "mean": round(statistics.fmean(gains), 3),
    }


def updated(out: Path) -> dict[str, Any]:
    """What it takes to send a network's next version to who has this one: LeNet's, after another epoch."""
    row = next(row for row in ROWS if row.network == "lenet5-modern")
    shrunk(row, out)
    old = out / folder_of(row) / f"network{SUFFIX}"
    again = out / "update"
    if not again.exists():
        unpack(load_file(old), again)
    learned = FineTuning(epochs=1, progress=Lines())(
        load(again), WeightConstraint.VALUES, out / "update-learned", seed=UPDATE_SEED
    )
    new = pack(learned, out / f"update{SUFFIX}")
    update = write_update(old, new.folder, out / "update.cvu")
    sizes = {name: path.stat().st_size for name, path in (("old", old), ("new", new.folder), ("update", update))}
    return {
        "network": row.network,
        "data": row.data,
        "bytes": sizes,
        "part_of_new": round(sizes["update"] / sizes["new"], 3),
        "part_allowed": PART_ALLOWED,
        "date": date.today().isoformat(),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("runs") / "compress")
    asked = parser.parse_args()
    path = measured.RESULTS / "compress.json"
    known = json.loads(path.read_text())["rows"] if path.exists() else {}
    works: dict[str, Callable[[], dict[str, Any]]] = {row.name: partial(shrunk, row, asked.out) for row in ROWS}
    works |= {DISTILLATION: partial(distilled, asked.out), UPDATE: partial(updated, asked.out)}
    for name, work in works.items():
        if not asked.rows or name in asked.rows:
            known[name] = work()
            # Each is kept as it comes: the whole takes long.
            ordered = {name: known[name] for name in works if name in known}
            measured.write("compress", "python benchmarks/compress.py", {"rows": ordered})


if __name__ == "__main__":
    main()
