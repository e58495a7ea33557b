"""Results on disk: one folder for each topic and budget, with the figures as JSON and the charts as SVG and PNG."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convatlas.draw import chart_from_json, chart_to_json, render_chart
from convatlas.errors import UserError
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.result import Conditions, StatementResult, TopicResult, run_statement
from convatlas.experiments.engine.statement import Statement, Topic
from convatlas.experiments.engine.verdict import Measurement, Threshold, Verdict
from convatlas.files import lock, tuples, write
from convatlas.files import read as read_file
from convatlas.files.sealed_json import sealed_json
from convatlas.files.typed_json import MAX_BYTES, as_file_error, decoded, parsed_object
from convatlas.formatting import plural
from convatlas.training import Progress

RESULT = "result.json"
RUNS = "runs"
FORMAT = 3
"""Format 1 had the conditions of the last statement for all; 1 and 2 called statements parts, and knew a threshold
only in words."""


def result_folder(out: Path, topic: Topic, budget: Budget) -> Path:
    """Each budget has a folder of its own, so that no run overwrites another budget's result."""
    return out / topic.id if budget is Budget.QUICK else out / topic.id / budget


def run(
    topic: Topic,
    budget: Budget = Budget.QUICK,
    *,
    num_seeds: int = 3,
    out: str | Path = "experiments",
    progress: Progress | None = None,
    on_statement_begin: Callable[[Statement], None] = lambda statement: None,
    on_training_end: Callable[[], None] = lambda: None,
    on_statement_end: Callable[[StatementResult], None] = lambda result: None,
) -> TopicResult:
    """Measure a topic's statements. Those with a result in `out` at this budget are not measured again.

    Args:
        num_seeds: how many times everything random is repeated.
        out: the folder of results; each topic has a folder of its own in it.
        progress: watches the trainings of this process.
        on_statement_begin, on_statement_end: called for each statement before it is measured, and with its result.
        on_training_end: called after each training, in any thread.

    Raises:
        UserError: `num_seeds` is below 1, `out` has a damaged result of this topic or one with another `num_seeds`, or
            another process measures the topic now.
    """
    if num_seeds < 1:
        raise UserError(f"`num_seeds` {num_seeds} measures nothing; it must be at least 1")
    folder = result_folder(Path(out), topic, budget)
    setting = Setting(
        budget=budget,
        seeds=tuple(range(num_seeds)),
        folder=Path(out) / RUNS,
        progress=progress or Progress(),
        on_training_end=on_training_end,
    )

    def result() -> TopicResult:
        """All results so far, also of statements after the one at hand."""
        results = tuple(done[statement.id] for statement in topic.statements if statement.id in done)
        return TopicResult(topic=topic, budget=budget, num_seeds=num_seeds, statements=results)

    with lock(folder), setting.workers:
        done = results_before(topic, budget, num_seeds, folder)
        for statement in topic.statements:
            on_statement_begin(statement)
            if statement.id not in done:
                done[statement.id] = run_statement(statement, setting)
                save_charts(done[statement.id], folder)
                write(folder / RESULT, sealed_json(to_json(result())))
            on_statement_end(done[statement.id])
    return result()


def results_before(topic: Topic, budget: Budget, num_seeds: int, folder: Path) -> dict[str, StatementResult]:
    """Those in the folder, by the ids of their statements.

    Raises:
        UserError: they are damaged, or of another budget or number of seeds.
    """
    if not (folder / RESULT).exists():
        return {}
    before = read(topic, folder)
    if (before.budget, before.num_seeds) != (budget, num_seeds):
        raise UserError(
            f"{folder} holds a result of budget {before.budget} with {plural(before.num_seeds, 'seed')}, which "
            "would be overwritten; choose another output folder"
        )
    return {one.statement.id: one for one in before.statements}


def save_charts(result: StatementResult, folder: Path) -> None:
    """Write a statement's charts as SVG and PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for drawn in result.measurement.charts if result.measurement else ():
        for form in ("svg", "png"):
            write(folder / f"{drawn.name}.{form}", render_chart(drawn, form))


def to_json(result: TopicResult) -> dict[str, Any]:
    """The result as JSON values."""
    return {
        "format": FORMAT,
        "id": result.topic.id,
        "title": result.topic.title,
        "verdict": result.verdict,
        "budget": result.budget,
        "num_seeds": result.num_seeds,
        "seconds": round(result.seconds, 1),
        "statements": [statement_to_json(one) for one in result.statements],
    }


def statement_to_json(result: StatementResult) -> dict[str, Any]:
    statement, measurement = result.statement, result.measurement
    values: dict[str, Any] = {
        **identity(statement),
        "text": statement.text,
        "statistic": statement.statistic,
        "verdict": result.verdict,
        "reason": result.reason,
        "seconds": result.seconds,
        **dataclasses.asdict(result.conditions),
        "measurement": None,
    }
    if measurement is not None:
        values["measurement"] = {
            "mean": measurement.mean,
            "std": measurement.std,
            "n": len(measurement.values),
            "values": measurement.values,
            "figures": measurement.figures,
            "note": measurement.note,
            "charts": [chart_to_json(drawn) for drawn in measurement.charts],
        }
    return values


def identity(statement: Statement) -> dict[str, Any]:
    """What makes a result one of this statement. Its words are not in it: a text may be improved under a result."""
    return {"id": statement.id, "version": statement.version, "threshold": bounds(statement.threshold)}


def bounds(threshold: Threshold) -> dict[str, float | None]:
    """As JSON, which has no infinity."""
    low, high = (None if math.isinf(edge) else edge for edge in (threshold.low, threshold.high))
    return {"low": low, "high": high}


def read(topic: Topic, folder: Path) -> TopicResult:
    """The result in that folder. Statements that have another threshold or version today are left out.

    Raises:
        UserError: there is none, it is damaged, or it has a newer format.
    """
    path = folder / RESULT
    try:
        with as_file_error(str(path)):
            values = upgraded(parsed_object(read_file(path, MAX_BYTES), FORMAT))
        if values["id"] != topic.id:
            raise UserError(f"{path} is a result of the topic {values['id']}, not of {topic.id}")
        saved = {one["id"]: one for one in values["statements"]}
        results = tuple(
            statement_from_json(statement, saved[statement.id])
            for statement in topic.statements
            if statement.id in saved and identity(statement).items() <= saved[statement.id].items()
        )
        return TopicResult(
            topic=topic,
            budget=Budget(values["budget"]),
            num_seeds=decoded(int, values["num_seeds"], "num_seeds"),
            statements=results,
        )
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no result; {topic.command} makes one") from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged or was not written by convatlas ({error})") from error


def statement_from_json(statement: Statement, values: dict[str, Any]) -> StatementResult:
    measurement = None
    if values["measurement"] is not None:
        inner = values["measurement"]
        measurement = Measurement(
            values=tuples(inner["values"]),
            figures=tuples(inner["figures"]),
            charts=tuple(chart_from_json(drawn) for drawn in inner["charts"]),
            note=inner["note"],
        )
    verdict = Verdict(values["verdict"])
    # Why values are inconclusive is not kept with them.
    if verdict is not Verdict.NOT_TESTABLE and (
        measurement is None or measurement.verdict(statement.threshold)[0] is not verdict
    ):
        raise ValueError(f"the verdict of {statement.id} is not that of its values")
    return StatementResult(
        statement=statement,
        verdict=verdict,
        reason=decoded(str, values["reason"], "reason"),
        measurement=measurement,
        seconds=decoded(float, values["seconds"], "seconds"),
        conditions=decoded(Conditions, {name: values[name] for name in ("when", "machine", "versions")}),
    )


def upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """A result of any format up to today's, with today's keys."""
    if values["format"] > 2:
        return values
    statements = []
    for part in values["parts"]:
        # In format 1 the conditions stand beside the parts.
        one = values | part
        threshold = bounds(threshold_from(one["threshold"]))
        statements.append(one | {"version": 1, "threshold": threshold, "measurement": one["measured"]})
    return values | {"num_seeds": values["seeds"], "statements": statements}


def threshold_from(text: str) -> Threshold:
    """The threshold that `str` gives in these words.

    Raises:
        ValueError: these are no threshold's words.
    """
    number = r"(-?[\d.,]+(?:e[+-]\d+)?)"
    found = re.fullmatch(rf"(exactly|at least|at most) {number}|{number} to {number}", text)
    if found is None:
        raise ValueError(f"{text!r} is not a threshold")
    kind, *numbers = found.groups()
    first, *rest = (float(number.replace(",", "")) for number in numbers if number)
    match kind:
        case "exactly":
            return Threshold(first, first)
        case "at least":
            return Threshold(low=first)
        case "at most":
            return Threshold(high=first)
    return Threshold(first, *rest)
