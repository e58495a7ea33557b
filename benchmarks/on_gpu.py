"""What only a GPU can show: the tests that need one, and trainings that take days without.

    scripts/on-gpu [--minutes N] [--out FILE]

calls `python benchmarks/on_gpu.py` with what it needs. A plan of steps is done in turn, each in processes of its own,
as far as the minutes reach; what each came to is in the file as soon as it is there. The trainings lie in a folder
beside it, of the same name without its suffix. The same command again leaves out what is done, resumes what was
stopped, and tries again what failed. The status is 1 if a step failed.

Seconds to 91 %: training has a schedule, so that its length is chosen before it begins. Lengths are tried in turn, the
shortest first, each with seed 0; where that run reaches the accuracy, two new seeds must reach it in their mean, or the
next length is tried. So a length is not chosen by one lucky run. The seconds are those of training alone: neither
loading, nor the tuning before it, nor the test. Every run that was tried is in the record.

Nothing here but PyTorch must be installed: where something else is missing, the steps that need it say so.
"""

from __future__ import annotations

import argparse
import enum
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

import measured
import torch

ROOT = Path(__file__).parents[1]

Figures = dict[str, Any]


class DeadlineError(Exception):
    """The time was over before the step was."""


class StepError(Exception):
    """A step could not be done; says why in one line."""


class Status(enum.StrEnum):
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    NOT_RUN = "not run"


class Step(Protocol):
    @property
    def name(self) -> str:
        """Also of its folder."""

    def minutes_left(self, figures: Mapping[str, Any]) -> float:
        """About how long it takes from where its figures say that it stands."""

    def measure(self, folder: Path, deadline: float, figures: Figures) -> None:
        """Do what is not done yet, and put what it comes to into `figures` as it comes.

        Args:
            folder: for this step alone; what an earlier call left is in it.
            deadline: of `time.monotonic`.

        Raises:
            DeadlineError, StepError: the figures are those until then.
        """


def run_until(deadline: float, command: Sequence[str], log: Path) -> int:
    """The exit status of a command, all of whose output goes to the end of `log`; it gets SIGTERM at the deadline.

    Raises:
        DeadlineError: it got that.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            return process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired as error:
            raise DeadlineError from error
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


@dataclass(frozen=True)
class MarkedTests:
    """The tests marked `gpu`."""

    name: str
    minutes: float
    folder: Path
    """Where they lie, with others."""

    def minutes_left(self, figures: Mapping[str, Any]) -> float:
        return self.minutes

    def files(self) -> list[Path]:
        """Those with such tests, by the mark or by the fixture that has it: others may import what is missing here."""
        paths = sorted(self.folder.rglob("test_*.py"))
        return [path for path in paths if any(word in path.read_text() for word in ("mark.gpu", "any_device"))]

    def measure(self, folder: Path, deadline: float, figures: Figures) -> None:
        report = folder / "report.xml"
        folder.mkdir(exist_ok=True)
        report.unlink(missing_ok=True)
        # Another PyTorch than the one that the tests are kept with may warn of more, which is an error there.
        options = ("-q", "-m", "gpu", "-W", "default", "--continue-on-collection-errors", "-p", "no:cacheprovider")
        command = (sys.executable, "-m", "pytest", *options, f"--junitxml={report}", *map(str, self.files()))
        status = run_until(deadline, command, log := folder / "log.txt")
        if not report.exists():
            raise StepError(last_line(log))
        figures |= test_counts(report)
        if status:
            raise StepError(f"{figures['failed']} failed, {figures['passed']} passed")


def test_counts(report: Path) -> Figures:
    """Of pytest's JUnit XML: how many passed, failed and were skipped, and why each did not pass."""
    counts, reasons = {"passed": 0, "failed": 0, "skipped": 0}, {}
    for case in ElementTree.parse(report).iter("testcase"):
        outcomes = [part for part in case if part.tag in ("failure", "error", "skipped")]
        is_skipped = any(part.tag == "skipped" for part in outcomes)
        counts["skipped" if is_skipped else "failed" if outcomes else "passed"] += 1
        if outcomes:
            message = (outcomes[0].get("message") or "").strip()
            reasons[f"{case.get('classname')}::{case.get('name')}"] = message.split("\n")[0][:200]
    return {**counts, "reasons": reasons}


def train(network: str, options: Sequence[str], folder: Path, deadline: float) -> Figures:
    """Train, or resume what lies in the folder, with options of `convatlas train`.

    Raises:
        DeadlineError: it is saved.
        StepError: the last line that it printed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    is_begun = (folder / "run.json").exists()
    verb = ("resume", str(folder)) if is_begun else ("train", network, *options, "--out", str(folder))
    log = folder.with_name(f"{folder.name}.log")
    if run_until(deadline, (sys.executable, "-m", "convatlas", *verb), log):
        raise StepError(last_line(log))
    return run_figures(folder)


def run_figures(folder: Path) -> Figures:
    """How far the training in a run folder is, and what it came to if it is finished."""
    figures: Figures = {}
    # Written with every checkpoint.
    if (folder / "metrics.jsonl").exists():
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for row in rows[-1:]:
            error = round(100 * (1 - row["accuracy"]), 3)
            figures |= {"epochs": row["epoch"], "training_error_percent": error, "training_seconds": row["seconds"]}
    if (folder / "run.json").exists():
        record = json.loads((folder / "run.json").read_text())
        figures |= {"planned_epochs": record["recipe"]["epochs"], "execution": record["execution"]}
        if record["results"] is not None:
            score = json.loads((folder / "model.json").read_text())["score"]
            figures |= {"training_seconds": record["results"]["seconds"], "test_accuracy": score["accuracy"]}
            figures |= {"test_errors": score["num_errors"], "test_images": score["num_images"]}
    return figures


@dataclass(frozen=True)
class Training:
    """One training."""

    name: str
    minutes: float
    network: str
    options: tuple[str, ...]
    """Of `convatlas train`."""

    def minutes_left(self, figures: Mapping[str, Any]) -> float:
        if "epochs" not in figures:
            return self.minutes
        left = figures["planned_epochs"] - figures["epochs"]
        return float(left * figures["training_seconds"] / figures["epochs"] / 60)

    def measure(self, folder: Path, deadline: float, figures: Figures) -> None:
        try:
            train(self.network, self.options, folder, deadline)
        finally:
            figures |= run_figures(folder)


@dataclass(frozen=True)
class SecondsToAccuracy:
    """The shortest training that reaches an accuracy."""

    name: str
    minutes: float
    network: str
    options: tuple[str, ...]
    """Of `convatlas train`."""
    accuracy: float
    lengths: tuple[int, ...]
    """Epochs, to be tried in turn."""
    seeds: tuple[int, ...] = (1, 2)
    """Which must reach it in their mean once seed 0 did."""

    def minutes_left(self, figures: Mapping[str, Any]) -> float:
        return self.minutes

    def measure(self, folder: Path, deadline: float, figures: Figures) -> None:
        runs: list[Figures] = []
        figures |= {"wanted_test_accuracy": self.accuracy, "runs": runs}

        def accuracy_of(length: int, seed: int) -> float:
            options = (*self.options, "--epochs", str(length), "--seed", str(seed))
            run = train(self.network, options, folder / f"{length}-epochs-seed-{seed}", deadline)
            runs.append({"seed": seed, **run})
            return float(run["test_accuracy"])

        for length in self.lengths:
            if accuracy_of(length, 0) < self.accuracy:
                continue
            mean = statistics.mean(accuracy_of(length, seed) for seed in self.seeds)
            if mean >= self.accuracy:
                seconds = [run["training_seconds"] for run in runs if run["planned_epochs"] == length]
                figures |= {"epochs": length, "seconds": measured.spread(seconds), "mean_test_accuracy": mean}
                return
        raise StepError(f"not reached in up to {self.lengths[-1]} epochs")


CIFAR10 = ("--data", "cifar10", "--device", "cuda")
PAPER = (*CIFAR10, "--recipe", "paper")
# Minutes are guessed from the number of steps, at 7 ms for 20 layers: no GPU was at hand to measure them.
PLAN: tuple[Step, ...] = (
    MarkedTests("gpu-tests", 4, ROOT / "tests"),
    SecondsToAccuracy("seconds-to-91", 6, "resnet20-cifar", CIFAR10, 0.91, (10, 15, 20, 30, 45, 60)),
    # He et al. 2015, section 4.2: 164 epochs each.
    Training("plain20-paper", 8, "plain20-cifar", PAPER),
    Training("resnet20-paper", 8, "resnet20-cifar", PAPER),
    Training("plain56-paper", 20, "plain56-cifar", PAPER),
    Training("resnet56-paper", 20, "resnet56-cifar", PAPER),
)


def output_of(*command: str) -> str | None:
    """What a command prints, if there is such a command here and it succeeds."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return None if done.returncode else done.stdout.strip()


def machine() -> Figures:
    """With its GPUs."""
    driver = output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    names = Path("/proc/cpuinfo").read_text().split("\n") if Path("/proc/cpuinfo").exists() else []
    return measured.machine() | {
        "processor_name": next((line.partition(": ")[2] for line in names if line.startswith("model name")), None),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "driver": driver.split("\n")[0] if driver else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "python": sys.version.split()[0],
    }


def commit() -> str | None:
    """Of the sources; None if git does not know them."""
    head, changes = output_of("git", "rev-parse", "HEAD"), output_of("git", "status", "--porcelain")
    return f"{head} with changes" if head and changes else head


def opened(out: Path) -> Figures:
    """The record in that file, or a new one.

    Raises:
        StepError: it is of other sources or of another machine.
    """
    identity = {"commit": commit(), "machine": machine()}
    if not out.exists():
        return {"command": "python benchmarks/on_gpu.py", "date": date.today().isoformat(), **identity, "steps": {}}
    record: Figures = json.loads(out.read_text())
    for name, value in identity.items():
        if record[name] != value:
            raise StepError(f"{out} is of another {name}; name another file with --out")
    return record


def write(out: Path, record: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    part = out.with_name(f".{out.name}.part")
    part.write_text(json.dumps(record, indent=2) + "\n")
    os.replace(part, out)


def main(plan: Sequence[Step], arguments: Sequence[str] | None = None) -> None:
    """Do a plan of steps, and exit with status 1 if one failed."""
    parser = argparse.ArgumentParser(prog="on-gpu")
    parser.add_argument("--minutes", type=float, default=90.0, help="as far as these reach; by default %(default)g")
    parser.add_argument("--out", type=Path, default=Path("runs") / "on-gpu.json", help="by default %(default)s")
    given = parser.parse_args(arguments)
    out: Path = given.out
    deadline = time.monotonic() + 60 * given.minutes
    try:
        record = opened(out)
    except StepError as error:
        print(f"on-gpu: {error}", file=sys.stderr)
        sys.exit(2)
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    steps = record["steps"]
    for step in plan:
        state = {"status": Status.NOT_RUN, "note": needs(step, {}), "seconds": 0.0, "figures": {}}
        steps.setdefault(step.name, state)
    for step in plan:
        state = steps[step.name]
        if state["status"] != Status.DONE and time.monotonic() < deadline:
            print(f"{step.name}: {needs(step, state['figures'])}", file=sys.stderr, flush=True)
            try:
                do(step, folder / step.name, deadline, state)
            except KeyboardInterrupt:
                print("on-gpu: stopped; the same command goes on", file=sys.stderr)
                sys.exit(130)
            finally:
                write(out, record)
        print(": ".join(filter(None, (step.name, state["status"], state["note"]))), file=sys.stderr, flush=True)
    write(out, record)
    print(out)
    sys.exit(any(state["status"] == Status.FAILED for state in steps.values()))


def needs(step: Step, figures: Mapping[str, Any]) -> str:
    return f"needs about {max(step.minutes_left(figures), 1):.0f} min"


def do(step: Step, folder: Path, deadline: float, state: Figures) -> None:
    """Bring a step's state to where the time reaches."""
    begun = time.monotonic()
    # Until it is known better.
    figures: Figures = {}
    state |= {"status": Status.STOPPED, "note": "stopped", "date": date.today().isoformat(), "figures": figures}
    try:
        step.measure(folder, deadline, figures)
        state |= {"status": Status.DONE, "note": ""}
    except DeadlineError:
        state["note"] = f"the time was over; {needs(step, figures)} more"
    except StepError as error:
        state |= {"status": Status.FAILED, "note": str(error)}
    finally:
        state["seconds"] = round(state["seconds"] + time.monotonic() - begun, 1)


if __name__ == "__main__":
    # `timeout` and schedulers send it: a step is stopped as by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main(PLAN)
