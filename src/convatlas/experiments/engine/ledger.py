"""Results on disk: one folder for each topic and budget, with the figures as JSON and the charts as SVG and PNG."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convatlas import data
from convatlas.draw import chart_from_json, chart_to_json, render_chart
from convatlas.errors import UserError
from convatlas.experiments.engine.answers import Answers
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.estimate import Estimate
from convatlas.experiments.engine.result import (
    Conditions,
    StatementResult,
    TopicResult,
    arms_of,
    fingerprint,
    measure,
    seeds_of,
)
from convatlas.experiments.engine.statement import Measurement, Statement, Topic
from convatlas.experiments.engine.worker_pool import WorkerPool
from convatlas.files import lock, tuples, write
from convatlas.files import read as read_file
from convatlas.files.sealed_json import sealed_json
from convatlas.files.typed_json import decoded, parsed_object
from convatlas.formatting import plural
from convatlas.training import Progress

RESULT = "result.json"
RUNS = "runs"
FORMAT = 4
"""Formats 1 to 3 had other statements, with other thresholds and verdicts: nothing of them can be kept."""
MAX_BYTES = 2**28
"""Of a result: the predictions of many networks are in it."""
NOT_YET = "not measured yet"
CONDITIONS = [field.name for field in dataclasses.fields(Conditions)]
OUTDATED = "was measured when it asked something else; the next run of its topic measures it again"


def result_folder(out: Path, topic: Topic, budget: Budget) -> Path:
    """Each budget has a folder of its own, so that no run overwrites another budget's result."""
    return out / topic.id / budget


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Callbacks of measuring, which do nothing by default."""

    on_statement_begin: Callable[[Topic, Statement], None] = lambda topic, statement: None
    """Before a statement is measured."""
    on_training_end: Callable[[], None] = lambda: None
    """After each training, in any thread."""
    on_statement_end: Callable[[TopicResult, Statement], None] = lambda result, statement: None
    """With the topic's results so far; those that were measured earlier come at once."""
    progress: Progress = field(default_factory=Progress)
    """Watches the trainings of this process."""


def run(
    topic: Topic,
    budget: Budget = Budget.QUICK,
    *,
    num_seeds: int = 3,
    out: str | Path = "experiments",
    watch: Watch | None = None,
) -> TopicResult:
    """Measure a topic's statements; see `run_all`."""
    (result,) = run_all([topic], budget, num_seeds=num_seeds, out=out, watch=watch)
    return result


def run_all(
    topics: Sequence[Topic],
    budget: Budget = Budget.QUICK,
    *,
    num_seeds: int = 3,
    out: str | Path = "experiments",
    watch: Watch | None = None,
) -> list[TopicResult]:
    """Measure the statements of topics, those of the highest priority first.

    What has a result in `out` at this budget is not measured again. A statement whose images are not here and cannot be
    downloaded is left out; its topic's `missing` says so.

    Args:
        num_seeds: how many times everything random is repeated, where a statement has no number of its own.
        out: the folder of results; each topic has a folder of its own in it.

    Returns:
        the result of each topic, in their order.

    Raises:
        UserError: `num_seeds` is below 1, `out` has a damaged result of a topic or one with another `num_seeds`, or
            another process measures a topic now.
    """
    if num_seeds < 1:
        raise UserError(f"`num_seeds` {num_seeds} measures nothing; it must be at least 1")
    watch, out = watch or Watch(), Path(out)
    with ExitStack() as stack:
        for topic in topics:
            stack.enter_context(lock(result_folder(out, topic, budget)))
        setting = Setting(
            budget=budget,
            seeds=tuple(range(num_seeds)),
            folder=out / RUNS,
            progress=watch.progress,
            workers=stack.enter_context(WorkerPool()),
            on_training_end=watch.on_training_end,
        )
        books = {topic.id: Book.opened(topic, setting, out) for topic in topics}
        asked = [(topic, one) for topic in topics for one in topic.statements if budget.allows(one.needs)]
        absent: dict[str, str] = {}
        for topic, statement in sorted(asked, key=lambda each: each[1].priority):
            book = books[topic.id]
            if statement.id not in book.done:
                watch.on_statement_begin(topic, statement)
                book.measure(statement, setting, absent)
            watch.on_statement_end(book.result, statement)
    return [books[topic.id].result for topic in topics]


@dataclass
class Book:
    """A topic's results while it is measured."""

    topic: Topic
    budget: Budget
    num_seeds: int
    folder: Path
    done: dict[str, StatementResult]
    absent: dict[str, str]
    """Of statements whose images are not here, and why."""

    @classmethod
    def opened(cls, topic: Topic, setting: Setting, out: Path) -> Book:
        """With the results that the folder has.

        Raises:
            UserError: they are damaged, or of another number of seeds.
        """
        folder, num_seeds = result_folder(out, topic, setting.budget), len(setting.seeds)
        done = {}
        if (folder / RESULT).exists():
            before = read(topic, setting.budget, out)
            if before.num_seeds != num_seeds:
                raise UserError(
                    f"{folder} holds a result of a run with {plural(before.num_seeds, 'seed')}, which would be "
                    f"overwritten; choose another output folder, or `num_seeds` {before.num_seeds}"
                )
            done = {one.statement.id: one for one in before.results}
        return cls(topic, setting.budget, num_seeds, folder, done, {})

    @property
    def result(self) -> TopicResult:
        """All results so far, in the order of the statements."""
        return topic_result(self.topic, self.budget, self.num_seeds, self.done, self.absent)

    def measure(self, statement: Statement, setting: Setting, absent: dict[str, str]) -> None:
        """Measure a statement, and write all results; or say why its images are not here.

        Args:
            absent: data sets that could not be had, with the reason; another is added.
        """
        own = replace(setting, seeds=seeds_of(statement, setting.budget, self.num_seeds))
        try:
            statement.prepare(own.folder)
        except UserError as error:
            self.absent[statement.id] = str(error)
            return
        for name in data_of(statement, own):
            if name not in absent:
                absent[name] = why_absent(name)
            if absent[name]:
                self.absent[statement.id] = absent[name]
                return
        self.done[statement.id] = measure(statement, own)
        save_charts(self.done[statement.id], self.folder)
        write(self.folder / RESULT, sealed_json(to_json(self.result)))


def topic_result(
    topic: Topic,
    budget: Budget,
    num_seeds: int,
    done: dict[str, StatementResult],
    absent: dict[str, str],
    outdated: Collection[str] = (),
) -> TopicResult:
    """What is done, and why the rest is not."""

    def why_missing(one: Statement) -> str:
        return absent.get(one.id) or one.why_not_at(budget) or (OUTDATED if one.id in outdated else NOT_YET)

    return TopicResult(
        topic=topic,
        budget=budget,
        num_seeds=num_seeds,
        results=tuple(done[one.id] for one in topic.statements if one.id in done),
        missing={one.id: why_missing(one) for one in topic.statements if one.id not in done},
        absent=absent,
        outdated=frozenset(one.id for one in topic.statements if one.id in outdated and one.id not in done),
    )


def data_of(statement: Statement, setting: Setting) -> list[str]:
    """The data sets that a statement's networks are trained on."""
    return sorted({str(arm.request(0).data) for arm in arms_of(statement, setting).values()})


def why_absent(name: str) -> str:
    """Why a data set cannot be had, and what gets it; empty if it is here, or now downloaded."""
    try:
        data.fetch(name)
    except UserError as error:
        return f"{name} is not here: {error}"
    return ""


def save_charts(result: StatementResult, folder: Path) -> None:
    """Write a statement's charts as SVG and PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for drawn in result.measurement.charts:
        for form in ("svg", "png"):
            write(folder / f"{drawn.name}.{form}", render_chart(drawn, form))


def to_json(result: TopicResult) -> dict[str, Any]:
    """The result as JSON values."""
    return {
        "format": FORMAT,
        "id": result.topic.id,
        "title": result.topic.title,
        "verdict": result.state,
        "budget": result.budget,
        "num_seeds": result.num_seeds,
        "seconds": round(result.seconds, 1),
        "statements": [statement_to_json(one, verdict=result.states[one.statement.id]) for one in result.results],
        "not_run": result.missing,
    }


def statement_to_json(result: StatementResult, verdict: str) -> dict[str, Any]:
    statement, measurement = result.statement, result.measurement
    estimate = measurement.estimate
    return {
        "id": statement.id,
        "text": statement.text,
        "statistic": statement.statistic,
        "threshold": {"low": finite(statement.threshold.low), "high": finite(statement.threshold.high)},
        "fingerprint": result.fingerprint,
        "verdict": verdict,
        "failed": measurement.failed,
        "low": finite(estimate.low),
        "high": finite(estimate.high),
        "estimate": dataclasses.asdict(estimate),
        "figures": measurement.figures,
        "note": measurement.note,
        "charts": [chart_to_json(drawn) for drawn in measurement.charts],
        "answers": measurement.answers.to_json() if measurement.answers else None,
        "seconds": result.seconds,
        **dataclasses.asdict(result.conditions),
    }


def finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None


def read(topic: Topic, budget: Budget, out: str | Path = "experiments") -> TopicResult:
    """A topic's result in a folder of results. Statements that ask something else today are its `outdated` ones.

    Raises:
        UserError: there is none, it is damaged, or another version of this program wrote it.
    """
    folder = result_folder(Path(out), topic, budget)
    path, command = folder / RESULT, topic.command(budget)
    remedy = f"move it away, and {command} measures all of it again"
    try:
        content = read_file(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise UserError(f"{folder} holds no result; {command} makes one") from error
    try:
        values = parsed_object(content, FORMAT)
        if values["format"] < FORMAT:
            raise UserError(f"written by an earlier convatlas, whose statements were others; {remedy}")
        if (values["id"], values["budget"]) != (topic.id, budget):
            raise UserError(
                f"the result of {values['id']} with the budget {values['budget']}, not of {topic.id} with {budget}; "
                f"{remedy}"
            )
        return from_json(topic, values, folder)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged or was not written by convatlas ({error}); {remedy}") from error


def from_json(topic: Topic, values: dict[str, Any], folder: Path) -> TopicResult:
    """
    Raises:
        ValueError, TypeError, LookupError, AttributeError: it is damaged.
    """
    budget, num_seeds = Budget(values["budget"]), decoded(int, values["num_seeds"], "num_seeds")
    saved = {one["id"]: one for one in values["statements"]}
    done = {}
    for statement in topic.statements:
        setting = Setting(budget=budget, seeds=seeds_of(statement, budget, num_seeds), folder=folder)
        if statement.id in saved and saved[statement.id]["fingerprint"] == fingerprint(statement, setting):
            done[statement.id] = statement_from_json(statement, saved[statement.id])
    result = topic_result(topic, budget, num_seeds, done, {}, saved.keys() - done.keys())
    if not result.outdated:
        for name, one in saved.items():
            if one["verdict"] != result.states[name]:
                raise ValueError(f"the verdict of {name} is not that of its figures")
    return result


def statement_from_json(statement: Statement, values: dict[str, Any]) -> StatementResult:
    return StatementResult(
        statement=statement,
        measurement=Measurement(
            estimate=decoded(Estimate, values["estimate"], "estimate"),
            failed=decoded(str, values["failed"], "failed"),
            figures=tuples(values["figures"]),
            charts=tuple(chart_from_json(drawn) for drawn in values["charts"]),
            note=decoded(str, values["note"], "note"),
            answers=None if values["answers"] is None else Answers.from_json(values["answers"]),
        ),
        fingerprint=values["fingerprint"],
        seconds=decoded(float, values["seconds"], "seconds"),
        conditions=decoded(Conditions, {name: values[name] for name in CONDITIONS if name in values}),
    )
