"""Results on disk: one folder an experiment, with the figures as JSON and the charts as SVG and PNG."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch

from convatlas.draw import chart, chart_from, chart_values
from convatlas.errors import UserError
from convatlas.experiments.experiment import (
    Budget,
    Experiment,
    Measured,
    Part,
    PartResult,
    Result,
    Setting,
    Verdict,
    carry_out,
)
from convatlas.files import tuples, write
from convatlas.runs.record import installed_versions
from convatlas.training import Progress

RESULT = "result.json"
RUNS = "runs"
FORMAT = 1


def run(
    experiment: Experiment,
    budget: Budget = Budget.QUICK,
    *,
    num_seeds: int = 3,
    out: str | Path = "experiments",
    progress: Progress | None = None,
    begins: Callable[[Part], None] = lambda part: None,
    ends: Callable[[PartResult], None] = lambda result: None,
) -> Result:
    """Carry out an experiment; parts that are in `out` already, at the same budget and seeds, are not run again.

    Args:
        num_seeds: how often what chance decides is repeated.
        out: the folder of results; this one's go into a folder of their own in it.
        progress: who watches the trainings.
        begins, ends: called with each part before it is measured, and with its result.

    Raises:
        UserError: there is a damaged result in `out`, or nothing can be repeated less than once.
    """
    if num_seeds < 1:
        raise UserError(f"--seeds {num_seeds} measures nothing; it must be at least 1")
    folder = Path(out) / experiment.id
    before = read(experiment, folder) if (folder / RESULT).exists() else None
    known: dict[str, PartResult] = {}
    if before is not None and (before.budget, before.num_seeds) == (budget, num_seeds):
        known = {one.part.id: one for one in before.parts}
    setting = Setting(
        budget=budget,
        seeds=tuple(range(num_seeds)),
        folder=Path(out) / RUNS,
        progress=progress or Progress(),
    )
    done: list[PartResult] = []
    result = None
    with setting.crew:
        for part in experiment.parts:
            fresh = part.id not in known
            begins(part)
            done.append(carry_out(part, setting) if fresh else known[part.id])
            ends(done[-1])
            result = Result(
                experiment=experiment,
                budget=budget,
                num_seeds=num_seeds,
                parts=tuple(done),
                when=date.today().isoformat() if fresh or before is None else before.when,
                machine=machine() if fresh or before is None else before.machine,
                versions=installed_versions() if fresh or before is None else before.versions,
            )
            if fresh:
                keep(result, folder, done[-1])
    assert result is not None, "an experiment has parts"
    return result


def machine() -> dict[str, str]:
    """The kind of machine, in words."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "gpu": device,
    }


def keep(result: Result, folder: Path, fresh: PartResult) -> None:
    """Write the result, and the charts of the part that was measured last."""
    folder.mkdir(parents=True, exist_ok=True)
    for drawn in fresh.measured.charts if fresh.measured else ():
        for form in ("svg", "png"):
            write(folder / f"{drawn.name}.{form}", chart(drawn, form))
    write(folder / RESULT, (json.dumps(values(result), indent=2) + "\n").encode())


def values(result: Result) -> dict[str, Any]:
    """The result for JSON."""
    return {
        "format": FORMAT,
        "id": result.experiment.id,
        "title": result.experiment.title,
        "verdict": result.verdict,
        "budget": result.budget,
        "seeds": result.num_seeds,
        "seconds": round(result.seconds, 1),
        "when": result.when,
        "machine": result.machine,
        "versions": result.versions,
        "parts": [part_values(one) for one in result.parts],
    }


def part_values(one: PartResult) -> dict[str, Any]:
    part, measured = one.part, one.measured
    told: dict[str, Any] = {
        **asked(part),
        "verdict": one.verdict,
        "reason": one.reason,
        "seconds": one.seconds,
        "measured": None,
    }
    if measured is not None:
        told["measured"] = {
            "mean": measured.mean,
            "deviation": measured.deviation,
            "n": len(measured.values),
            "values": measured.values,
            "figures": measured.figures,
            "note": measured.note,
            "charts": [chart_values(drawn) for drawn in measured.charts],
        }
    return told


def asked(part: Part) -> dict[str, str]:
    """What was set before the measurement."""
    return {"id": part.id, "claim": part.claim, "statistic": part.statistic, "threshold": str(part.threshold)}


def read(experiment: Experiment, folder: Path) -> Result:
    """The result in that folder; parts that the experiment asks in another way today are left out.

    Raises:
        UserError: there is none, it is damaged, or it is of a newer format.
    """
    path = folder / RESULT
    try:
        told = json.loads(path.read_bytes())
        if told["format"] > FORMAT:
            raise UserError(f"{path} was written by a newer convatlas; update this one to read it")
        if told["id"] != experiment.id:
            raise UserError(f"{path} is of the experiment {told['id']}, not of {experiment.id}")
        kept = {one["id"]: one for one in told["parts"]}
        parts = tuple(
            part_from(part, kept[part.id])
            for part in experiment.parts
            if part.id in kept and asked(part).items() <= kept[part.id].items()
        )
        return Result(
            experiment=experiment,
            budget=Budget(told["budget"]),
            num_seeds=told["seeds"],
            parts=parts,
            when=told["when"],
            machine=told["machine"],
            versions=told["versions"],
        )
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no result; {experiment.command} makes one") from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged or was not written by convatlas ({error})") from error


def part_from(part: Part, told: dict[str, Any]) -> PartResult:
    measured = None
    if told["measured"] is not None:
        inner = told["measured"]
        measured = Measured(
            values=tuples(inner["values"]),
            figures=tuples(inner["figures"]),
            charts=tuple(chart_from(drawn) for drawn in inner["charts"]),
            note=inner["note"],
        )
    return PartResult(
        part=part, verdict=Verdict(told["verdict"]), reason=told["reason"], measured=measured, seconds=told["seconds"]
    )
