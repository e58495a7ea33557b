"""The page of all results: it stands alone, every plot has words, and Markdown says the same."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.draw import Lines, Series
from convatlas.errors import UserError
from convatlas.experiments import Budget, Statement, Topic
from convatlas.experiments.engine import ledger
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.report import (
    describe_conditions,
    format_measurement,
    format_number,
    unbroken,
    write_reports,
)
from convatlas.experiments.engine.statement import NotTestable
from convatlas.experiments.engine.verdict import Measurement, at_least, exactly

HTML = "{http://www.w3.org/1999/xhtml}"
CHART = Lines(
    name="chart", title="A < B & C", x="x", y="y", series=(Series("a", (1.0, 2.0), (3.0, 4.0)),), threshold=3.5
)


def measured(setting: Setting) -> Measurement:
    return Measurement(values=(2.0, 2.5), charts=(CHART,), figures=(("name <b>", "1.5 s"),), note="a note")


def counted(setting: Setting) -> Measurement:
    return Measurement(values=(60_965_224,))


def unknown(setting: Setting) -> Measurement:
    raise NotTestable("it takes a GPU")


def statement(name: str, measure: object, threshold: object) -> Statement:
    return Statement(
        id=name, text=f"Text <{name}>", statistic="a statistic", threshold=threshold, measure=measure,  # type: ignore[arg-type]
    )  # fmt: skip


def topic(name: str) -> Topic:
    return Topic(
        id=name,
        title=f"Title & {name}",
        summary="the summary",
        source="the source",
        method="the method",
        limitations="the limitations",
        minutes=(0.1, 0.1),
        statements=(
            statement("one", measured, at_least(1)),
            statement("two", counted, exactly(60_965_224)),
            statement("three", unknown, at_least(0)),
        ),
    )


FIRST, SECOND = topic("first"), topic("second")


@pytest.fixture(scope="module")
def pages(
    tmp_path_factory: pytest.TempPathFactory, drawing: Callable[[], AbstractContextManager[None]]
) -> tuple[ET.Element, str]:
    """Of one topic that was run, and one that was not."""
    out = tmp_path_factory.mktemp("pages") / "results"
    with drawing():
        ledger.run(FIRST, out=out)
        html, markdown = write_reports(out, (FIRST, SECOND))
    assert (html, markdown) == (out.with_suffix(".html"), out.with_suffix(".md"))
    return ET.fromstring(html.read_bytes()), markdown.read_text()


def text_of(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def spaced(element: ET.Element) -> str:
    """The same, with spaces between cells."""
    return " ".join(" ".join(element.itertext()).split())


def test_the_page_stands_alone(pages: tuple[ET.Element, str]) -> None:
    tree, _ = pages
    for element in tree.iter():
        assert element.tag.removeprefix(HTML) not in {"script", "link", "iframe", "object", "embed", "base"}
        for name in ("src", "href"):
            assert element.attrib.get(name, "#").startswith(("data:", "#"))
    style = text_of(next(tree.iter(f"{HTML}style")))
    assert not re.search(r"url\(|@import", style)


def test_every_plot_has_words(pages: tuple[ET.Element, str]) -> None:
    tree, markdown = pages
    images = list(tree.iter(f"{HTML}img"))
    assert [image.attrib["alt"] for image in images] == [CHART.alt_text]
    plot = ET.fromstring(base64.b64decode(images[0].attrib["src"].partition(",")[2]))
    assert "A < B & C" in text_of(plot)
    assert f"![{CHART.alt_text}](results/first/chart.svg)" in markdown


def test_it_says_everything_that_a_result_has(pages: tuple[ET.Element, str]) -> None:
    tree, markdown = pages
    page = text_of(tree)
    for told in ("the summary", "the source", "the method", "the limitations", "a note", "it takes a GPU", "1.5 s"):
        assert told in page
        assert told in markdown
    for told in (
        "2.25 ± 0.35 (n = 2)",
        "60,965,224",
        "at least 1",
        "exactly 60,965,224",
        "not testable at this budget",
    ):
        assert told in page
        assert told in markdown
    assert "2 of 3 statements tested" in page
    assert "**reproduced**, 2 of 3 statements tested" in markdown
    assert "1 topic: 1 reproduced. 3 statements: 2 reproduced, 1 not testable at this budget." in page
    # A bare verdict says too much, and one budget is not the other.
    assert "reproduced 2 of 3 statements tested not run" in spaced(next(tree.iter(f"{HTML}nav")))
    assert "| Title & first | reproduced (2 of 3 statements tested) | not run |" in markdown
    for told in (page, markdown):
        assert "The full budget was not run for 1 topic." in told
        assert "The full budget was not run." in told
    # A link for each result; what was not run says so.
    assert [link.attrib["href"] for link in tree.iter(f"{HTML}a")] == ["#first"]
    assert "Title & second not run" in spaced(tree)


def test_the_full_budget_stands_beside_quick(tmp_path: Path) -> None:
    def elsewhere(setting: Setting) -> Measurement:
        if setting.quick:
            return Measurement(values=(-1.0,))
        return Measurement(values=(7.5,), charts=(CHART,), figures=(("of the full run", "8 s"),))

    both = replace(
        FIRST, statements=(statement("one", elsewhere, at_least(1)), statement("two", counted, exactly(60_965_224)))
    )
    out = tmp_path / "results"
    ledger.run(both, out=out)
    ledger.run(both, Budget.FULL, out=out)
    html, path = write_reports(out, (both,))
    tree, markdown = ET.fromstring(html.read_bytes()), path.read_text()
    page = text_of(tree)
    assert "(threshold: at least 1) not reproduced" in page
    assert "Full budget: 7.5. reproduced" in page
    assert "reproduced 2 of 2 statements tested" in spaced(next(tree.iter(f"{HTML}nav")))
    for told in (page, markdown):
        assert "1 topic: 1 not reproduced. 2 statements: 1 reproduced, 1 not reproduced." in told
        assert "At the full budget, 1 topic: 1 reproduced. 2 statements: 2 reproduced." in told
        assert "full budget was not run" not in told
        assert "of the full run" in told
    assert "| Text <one> | a statistic | at least 1 | -1 | not reproduced | 7.5 | reproduced |" in markdown
    assert (
        "| Title & first | not reproduced (2 of 2 statements tested) | reproduced (2 of 2 statements tested) |"
        in markdown
    )
    assert "](results/first/full/chart.svg)" in markdown


def test_a_result_of_the_full_budget_alone_says_so(tmp_path: Path) -> None:
    ledger.run(FIRST, Budget.FULL, out=tmp_path / "results")
    html, markdown = write_reports(tmp_path / "results", (FIRST,))
    assert "Budget full, 3 seeds" in text_of(ET.fromstring(html.read_bytes()))
    assert "](results/first/full/chart.svg)" in markdown.read_text()


def test_charts_are_drawn_again(tmp_path: Path) -> None:
    ledger.run(FIRST, out=tmp_path / "results")
    drawn = tmp_path / "results" / "first" / "chart.svg"
    before = drawn.read_bytes()
    drawn.write_text("as an older version drew it")
    write_reports(tmp_path / "results", (FIRST,))
    assert drawn.read_bytes() == before


def test_statements_of_several_days_say_which(tmp_path: Path) -> None:
    result = ledger.run(FIRST, out=tmp_path)
    assert "one" not in describe_conditions(result)
    first, *rest = result.statements
    older = replace(first, conditions=replace(first.conditions, when="2001-02-03"))
    told = describe_conditions(replace(result, statements=(older, *rest)))
    assert "one: 2001-02-03; " in told
    assert f"two, three: {first.conditions.when}; " in told


def test_the_commands_name_the_folder_of_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ledger.run(FIRST, out="docs/results")
    _, markdown = write_reports("docs/results", (FIRST,))
    assert "`convatlas experiment report --out docs/results`" in markdown.read_text()
    assert "](results/first/chart.svg)" in markdown.read_text()


def test_nothing_to_report_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no results; convatlas experiment run --all"):
        write_reports(tmp_path / "nowhere", (FIRST,))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (60_000.0, "60,000"),
        (0.0, "0"),
        (0.23434, "0.2343"),
        (4.17e-15, "4.17e-15"),
        (-2.0, "-2"),
        (12345.6, "1.235e+04"),
    ],
)
def test_whole_numbers_are_written_out(value: float, words: str) -> None:
    assert format_number(value) == words


def test_a_number_stays_in_one_line_with_its_unit() -> None:
    space = "\N{NO-BREAK SPACE}"
    assert unbroken("1.88 %, 24 million MACs, 68 px") == f"1.88{space}%, 24 million MACs, 68{space}px"


def test_what_was_not_measured_has_no_number(tmp_path: Path) -> None:
    result = ledger.run(FIRST, out=tmp_path)
    assert [format_measurement(one) for one in result.statements] == ["2.25 ± 0.35 (n = 2)", "60,965,224", "–"]
