"""Results on disk: one folder an experiment and budget, with the figures as JSON and the charts as SVG and PNG."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convatlas.draw import chart_from_json, chart_to_json, render_chart
from convatlas.errors import UserError
from convatlas.experiments.engine.experiment import (
    Budget,
    Conditions,
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
from convatlas.training import Progress

RESULT = "result.json"
RUNS = "runs"
FORMAT = 2
"""In 1 a result had the conditions of its last part for all."""


def folder_of(out: Path, experiment: Experiment, budget: Budget) -> Path:
    """Where the result of that budget is: no run overwrites what another budget gave."""
    return out / experiment.id if budget is Budget.QUICK else out / experiment.id / budget


def run(
    experiment: Experiment,
    budget: Budget = Budget.QUICK,
    *,
    num_seeds: int = 3,
    out: str | Path = "experiments",
    progress: Progress | None = None,
    begins: Callable[[Part], None] = lambda part: None,
    trained: Callable[[], None] = lambda: None,
    ends: Callable[[PartResult], None] = lambda result: None,
) -> Result:
    """Carry out an experiment; parts that are in `out` already, at the same budget, are not run again.

    Args:
        num_seeds: how often what chance decides is repeated.
        out: the folder of results; this one's go into a folder of their own in it.
        progress: who watches the trainings.
        begins, ends: called with each part before it is measured, and with its result.
        trained: called when a training of a part is done, in whatever thread.

    Raises:
        UserError: there is a damaged result in `out`, or one of other seeds, or nothing can be repeated less than once.
    """
    if num_seeds < 1:
        raise UserError(f"--seeds {num_seeds} measures nothing; it must be at least 1")
    folder = folder_of(Path(out), experiment, budget)
    done: dict[str, PartResult] = {}
    if (folder / RESULT).exists():
        before = read(experiment, folder)
        if (before.budget, before.num_seeds) != (budget, num_seeds):
            raise UserError(
                f"{folder} holds a result of --budget {before.budget} --seeds {before.num_seeds}, which would be lost; "
                "name another folder with --out"
            )
        done = {one.part.id: one for one in before.parts}
    setting = Setting(
        budget=budget,
        seeds=tuple(range(num_seeds)),
        folder=Path(out) / RUNS,
        progress=progress or Progress(),
        trained=trained,
    )

    def result() -> Result:
        """With every part that is known, also those after one that was asked anew."""
        parts = tuple(done[part.id] for part in experiment.parts if part.id in done)
        return Result(experiment=experiment, budget=budget, num_seeds=num_seeds, parts=parts)

    with setting.workers:
        for part in experiment.parts:
            begins(part)
            if part.id not in done:
                done[part.id] = carry_out(part, setting)
                keep(result(), folder, done[part.id])
            ends(done[part.id])
    return result()


def keep(result: Result, folder: Path, fresh: PartResult) -> None:
    """Write the result, and the charts of the part that was measured last."""
    draw(fresh, folder)
    write(folder / RESULT, (json.dumps(values(result), indent=2) + "\n").encode())


def draw(one: PartResult, folder: Path) -> None:
    """Write a part's charts."""
    folder.mkdir(parents=True, exist_ok=True)
    for drawn in one.measured.charts if one.measured else ():
        for form in ("svg", "png"):
            write(folder / f"{drawn.name}.{form}", render_chart(drawn, form))


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
        "parts": [part_values(one) for one in result.parts],
    }


def part_values(one: PartResult) -> dict[str, Any]:
    part, measured = one.part, one.measured
    told: dict[str, Any] = {
        **asked(part),
        "verdict": one.verdict,
        "reason": one.reason,
        "seconds": one.seconds,
        **dataclasses.asdict(one.conditions),
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
            "charts": [chart_to_json(drawn) for drawn in measured.charts],
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
        # What a part has of its own counts before what an older file says of all.
        kept = {one["id"]: told | one for one in told["parts"]}
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
            charts=tuple(chart_from_json(drawn) for drawn in inner["charts"]),
            note=inner["note"],
        )
    return PartResult(
        part=part,
        verdict=Verdict(told["verdict"]),
        reason=told["reason"],
        measured=measured,
        seconds=told["seconds"],
        conditions=Conditions(when=told["when"], machine=told["machine"], versions=told["versions"]),
    )
