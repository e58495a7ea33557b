"""The page of all results: it stands alone, one row a statement, every plot has words, and Markdown says the same."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convatlas.draw import Lines, Series
from convatlas.errors import UserError
from convatlas.experiments import Budget, Quoted, Statement, Topic
from convatlas.experiments.engine import ledger
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.estimate import Estimate, counted, ratio, repeated, timed
from convatlas.experiments.engine.report import (
    TopicReport,
    describe_conditions,
    format_ends,
    format_number,
    found,
    told,
    unbroken,
    write_reports,
)
from convatlas.experiments.engine.statement import Measurement, Role
from convatlas.experiments.engine.verdict import Threshold, at_least, exactly

HTML = "{http://www.w3.org/1999/xhtml}"
CHART = Lines(
    name="chart",
    title="A < B & C",
    subtitle="digits, 3 seeds",
    x="x",
    y="y",
    series=(Series("a", (1.0, 2.0), (3.0, 4.0)),),
    marks=(("paper: 3.5", 3.5),),
)


def measured(setting: Setting) -> Measurement:
    return Measurement(
        estimate=repeated((2.0, 2.1, 2.2)), charts=(CHART,), figures=(("name <b>", "1.5 s"),), note="a note"
    )


def statement(name: str, measure: Callable[[Setting], Measurement], **more: Any) -> Statement:
    values: dict[str, Any] = {"threshold": at_least(1.0), "unit": "points"} | more
    return Statement(id=name, text=f"Text <{name}>", statistic="a statistic", measure=measure, **values)


def always(estimate: Estimate, failed: str = "") -> Callable[[Setting], Measurement]:
    return lambda setting: Measurement(estimate=estimate, failed=failed)


def topic(name: str) -> Topic:
    return Topic(
        id=name,
        title=f"Title & {name}",
        summary="the summary",
        source="the source",
        method="the method",
        limitations="the limitations",
        minutes_quick=0.1,
        minutes_full=0.1,
        statements=(
            statement("folk", always(timed((0.5, 0.6, 0.7))), role=Role.FOLKLORE, unit=""),
            statement("two", always(counted(60_965_224)), threshold=exactly(60_965_224), role=Role.COUNT, unit=""),
            statement("one", measured, paper="2 points (Table 3)", test_bed="ten digits"),
            statement("three", measured, needs=Budget.STANDARD, minutes=46),
            statement("four", always(repeated((5.0, 5.0)), failed="it has not learned")),
            statement("five", always(repeated((1.1, 1.5, 2.0)))),
        ),
    )


FIRST, SECOND = topic("first"), topic("second")
QUOTED = (Quoted(text="It took <a week>", source="the press", why="a week"),)


@pytest.fixture(scope="module")
def pages(
    tmp_path_factory: pytest.TempPathFactory, drawing: Callable[[], AbstractContextManager[None]]
) -> tuple[ET.Element, str]:
    """Of one topic that was run, and one that was not."""
    out = tmp_path_factory.mktemp("pages") / "results"
    with drawing():
        ledger.run(FIRST, out=out)
        html, markdown = write_reports(out, (FIRST, SECOND), QUOTED)
    assert (html, markdown) == (out.with_suffix(".html"), out.with_suffix(".md"))
    return ET.fromstring(html.read_bytes()), markdown.read_text()


def text_of(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def rows_of(tree: ET.Element) -> list[str]:
    """What is seen of each statement before it is unfolded."""
    rows = [each for each in tree.iter(f"{HTML}details") if each.attrib.get("class") == "row"]
    return [" ".join(" ".join(row[0].itertext()).split()).replace("\N{NO-BREAK SPACE}", " ") for row in rows]


def test_the_page_stands_alone(pages: tuple[ET.Element, str]) -> None:
    tree, _ = pages
    for element in tree.iter():
        assert element.tag.removeprefix(HTML) not in {"script", "link", "iframe", "object", "embed", "base"}
        for name in ("src", "href"):
            assert element.attrib.get(name, "#").startswith(("data:", "#"))
    style = text_of(next(tree.iter(f"{HTML}style")))
    assert not re.search(r"url\(|@import", style)


def test_every_plot_has_words_and_the_papers_value(pages: tuple[ET.Element, str]) -> None:
    tree, markdown = pages
    images = list(tree.iter(f"{HTML}img"))
    assert [image.attrib["alt"] for image in images] == [CHART.alt_text]
    plot = text_of(ET.fromstring(base64.b64decode(images[0].attrib["src"].partition(",")[2])))
    for words in ("A < B & C", "digits, 3 seeds", "paper: 3.5"):
        assert words in plot
    assert f"![{CHART.alt_text}](results/first/quick/chart.svg)" in markdown


def test_each_statement_is_a_row(pages: tuple[ET.Element, str]) -> None:
    tree, markdown = pages
    # Central statements come first, then counts, then folklore. Only the first topic was run.
    assert rows_of(tree) == [
        "Text <one> paper: 2 points (Table 3) here: 2.1 points (1.85 to 2.35) a statistic; confirmed if at least 1 "
        "point confirmed test bed: ten digits",
        "Text <four> paper: – here: – a statistic; confirmed if at least 1 point invalid it has not learned "
        "test bed: –",
        "Text <five> paper: – here: 1.53 points (0.413 to 2.65) a statistic; confirmed if at least 1 point "
        "inconclusive 1.4 points away from the threshold could have been told test bed: –",
        "Text <two> counted paper: – here: 60,965,224 a statistic; confirmed if exactly 60,965,224 confirmed "
        "test bed: –",
        "Text <folk> folklore paper: – here: 0.6 (0.5 to 0.7) a statistic; confirmed if at least 1 contradicted "
        "test bed: –",
    ]
    assert (
        "| Text <one> | 2 points (Table 3) | 2.1 points (1.85 to 2.35) | at least 1 point | confirmed | ten digits |"
        in markdown
    )
    assert "| Text <two> *(counted)* | – | 60,965,224 | exactly 60,965,224 | confirmed | – |" in markdown


def test_what_was_not_run_is_folded(pages: tuple[ET.Element, str]) -> None:
    tree, markdown = pages
    folded = {
        text_of(each[0]): text_of(each[1]) for each in tree.iter(f"{HTML}details") if "not run yet:" in text_of(each[0])
    }
    first = "1 statement not run yet: --budget standard, about 46 min"
    second = "6 statements not run yet: --budget quick; --budget standard, about 46 min"
    assert list(folded) == [first, second]
    assert folded[first] == "Text <three> a statistic; confirmed if at least 1 point; needs standard, 46 min"
    assert "paper: 2 points (Table 3)" in folded[second]
    assert f"<summary>{first}</summary>" in markdown
    assert "| Text <three> | – | at least 1 point | needs standard, 46 min | – |" in markdown


def test_it_says_everything_that_a_result_has(pages: tuple[ET.Element, str]) -> None:
    tree, markdown = pages
    page = text_of(tree)
    for told_in_both in (
        "the summary", "the source", "the method", "the limitations", "a note", "1.5 s", "a week", "the press",
        "mean and 95 % confidence interval, 3 seeds", "median and range of 3 processes",
        "2 topics: 1 partly supported, 1 undecided. 8 central statements: 1 confirmed, 1 inconclusive, 1 invalid, "
        "5 not run. 1 of 1 counted figures agree.",
    ):  # fmt: skip
        assert told_in_both in page, told_in_both
        assert told_in_both in markdown, told_in_both
    assert (
        "| Title & first | partly supported | 1 confirmed, 1 inconclusive, 1 invalid, 1 not run | 1 of 1 |" in markdown
    )
    assert "| Title & second | undecided | 4 not run | – |" in markdown
    assert [link.attrib["href"] for link in tree.iter(f"{HTML}a")] == ["#first", "#second"]


def test_standard_is_shown_before_quick_and_full_beside(tmp_path: Path) -> None:
    def of_budget(setting: Setting) -> Measurement:
        return Measurement(estimate=counted(float(len(setting.budget))), charts=(CHART,) if setting.full else ())

    both = replace(FIRST, statements=(statement("one", of_budget),))
    out = tmp_path / "results"
    for budget in Budget:
        ledger.run(both, budget, out=out)
    html, path = write_reports(out, (both,), ())
    page, markdown = text_of(ET.fromstring(html.read_bytes())), path.read_text()
    # The names of the budgets have 8 letters and 4.
    assert "here: 8 points" in page
    assert "Full budget: 4 points confirmed" in page
    # What is counted has no seeds.
    assert re.search(r"Budget standard, \d[^,]* in all", page)
    assert "convatlas experiment run first --budget standard" in page
    assert "**one, full budget**" in markdown
    assert "](results/first/full/chart.svg)" in markdown


def test_what_standard_has_not_measured_is_quicks(tmp_path: Path) -> None:
    """Standard takes hours and is run in pieces."""
    out = tmp_path / "results"
    ledger.run(FIRST, out=out)
    begun = replace(FIRST, statements=tuple(one for one in FIRST.statements if one.id == "three"))
    ledger.run(begun, Budget.STANDARD, out=out)
    report = TopicReport.read(FIRST, out)
    assert report.result.budget is Budget.STANDARD
    assert {one.statement.id for one in report.result.results} == {one.id for one in FIRST.statements}
    assert report.waiting == []
    write_reports(out, (FIRST,), ())
    assert (out / "first" / "standard" / "chart.svg").exists()


@pytest.mark.slow
def test_charts_are_drawn_again(tmp_path: Path) -> None:
    ledger.run(FIRST, out=tmp_path / "results")
    drawn = tmp_path / "results" / "first" / "quick" / "chart.svg"
    before = drawn.read_bytes()
    drawn.write_text("as an older version drew it")
    write_reports(tmp_path / "results", (FIRST,), ())
    assert drawn.read_bytes() == before


@pytest.mark.slow
def test_statements_of_several_days_say_which(tmp_path: Path) -> None:
    result = ledger.run(FIRST, out=tmp_path)
    assert "folk" not in describe_conditions(result)
    first, *rest = result.results
    older = replace(first, conditions=replace(first.conditions, when="2001-02-03"))
    words = describe_conditions(replace(result, results=(older, *rest)))
    assert "folk: 2001-02-03; " in words
    assert f"two, one, four, five: {first.conditions.when}; " in words


def test_the_commands_name_the_folder_of_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ledger.run(FIRST, out="docs/results")
    _, markdown = write_reports("docs/results", (FIRST,), ())
    assert "`convatlas experiment report --out docs/results`" in markdown.read_text()
    assert "](results/first/quick/chart.svg)" in markdown.read_text()


def test_nothing_to_report_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no results; convatlas experiment run --all"):
        write_reports(tmp_path / "nowhere", (FIRST,), ())


@pytest.mark.at_once(
    ("value", "words"),
    [(60_000.0, "60,000"), (0.0, "0"), (0.23434, "0.234"), (4.17e-15, "4.17e-15"), (-2.0, "-2"), (12345.6, "12,346")],
)
def test_whole_numbers_are_written_out(value: float, words: str) -> None:
    assert format_number(value) == words


def test_a_number_stays_in_one_line_with_its_unit() -> None:
    space = "\N{NO-BREAK SPACE}"
    assert unbroken("1.88 %, 24 million MACs, 68 px") == f"1.88{space}%, 24 million MACs, 68{space}px"


@pytest.mark.at_once(
    ("estimate", "ends"),
    [(counted(3.0), ""), (repeated((1.0,)), " (one seed)"), (timed((3.0, 1.0, 2.0)), " (1 to 3)")],
)
def test_the_ends_are_those_of_the_basis(estimate: Estimate, ends: str) -> None:
    assert format_ends(estimate) == ends


def test_what_could_have_been_told_of_a_ratio_is_a_factor(tmp_path: Path) -> None:
    one = statement("one", always(ratio((2.0, 3.0, 9.0), (2.0, 2.0, 3.0))))
    result = ledger.run(replace(FIRST, statements=(one,)), out=tmp_path)
    assert "times away from the threshold could have been told" in told(one, result)
    assert found(one, result.of(one)).startswith("1.65 points (")


def learned(id: str, measure: Callable[[Setting], Measurement]) -> Statement:
    """A statement whose precondition is a training error."""
    return replace(statement(id, measure), max_training_error=5.0)


def test_what_could_have_been_told_of_a_window_is_from_either_edge(tmp_path: Path) -> None:
    one = statement("one", always(repeated((1.1, 1.5, 2.0))), threshold=Threshold(1.0, 2.0))
    result = ledger.run(replace(FIRST, statements=(one,)), out=tmp_path)
    assert told(one, result) == "1.4 points away from either edge could have been told"


def test_what_was_measured_before_is_no_page_without_results(tmp_path: Path) -> None:
    out = tmp_path / "results"
    one = replace(FIRST, statements=FIRST.statements[1:2])
    ledger.run(one, out=out)
    moved = replace(one, statements=(replace(one.statements[0], version=2),))
    _, path = write_reports(out, (moved,), ())
    assert "was measured when it asked something else" in path.read_text()


def test_a_precondition_is_told_and_where_it_failed_no_effect_is_shown(tmp_path: Path) -> None:
    found = Measurement(
        estimate=repeated((2.0, 2.1, 2.2)),
        figures=(("training error, it", "1.0 %"), ("it minus the other", "2.10 points")),
        charts=(CHART,),
        note="It leads by 2.10 points.",
    )
    both = (
        learned("met", lambda setting: found),
        learned("unmet", lambda setting: replace(found, failed="it has not learned", charts=())),
    )
    ledger.run(replace(FIRST, statements=both), out=tmp_path / "results")
    html, path = write_reports(tmp_path / "results", (replace(FIRST, statements=both),), ())
    page, markdown = text_of(ET.fromstring(html.read_bytes())), path.read_text()
    for words in (page, markdown):
        assert words.count("precondition, a training error of at most 5 % of the better network: met") == 1
        # Which one failed is told beside the state; another may have been met.
        assert "not met" not in words
        assert "it has not learned" in words
        assert words.count("It leads by 2.10 points.") == words.count("it minus the other") == 1
        assert words.count("training error, it") == 2
    assert "3 seeds" in page


def test_the_numbers_of_seeds_are_those_of_the_estimates(tmp_path: Path) -> None:
    both = (
        statement("one", always(repeated((1.0, 2.0, 3.0)))),
        statement("two", always(repeated((1.0, 2.0, 3.0, 4.0, 5.0)))),
    )
    result = ledger.run(replace(FIRST, statements=both), out=tmp_path)
    assert describe_conditions(result).startswith("Budget quick, 3 or 5 seeds, ")
