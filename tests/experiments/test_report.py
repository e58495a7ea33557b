"""The page of all results: it stands alone, every plot has words, and Markdown says the same."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from convatlas.draw import Lines, Series
from convatlas.errors import UserError
from convatlas.experiments import Experiment, ledger
from convatlas.experiments.experiment import Measured, NotTestable, Part, Setting, at_least, exactly
from convatlas.experiments.report import number, worded, write_reports

HTML = "{http://www.w3.org/1999/xhtml}"
CHART = Lines(
    name="chart", title="A < B & C", x="x", y="y", series=(Series("a", (1.0, 2.0), (3.0, 4.0)),), threshold=3.5
)


def measured(setting: Setting) -> Measured:
    return Measured(values=(2.0, 2.5), charts=(CHART,), figures=(("name <b>", "1.5 s"),), note="a note")


def counted(setting: Setting) -> Measured:
    return Measured(values=(60_965_224,))


def unknown(setting: Setting) -> Measured:
    raise NotTestable("it takes a GPU")


def part(name: str, measure: object, threshold: object) -> Part:
    return Part(id=name, claim=f"Claim <{name}>", statistic="a statistic", threshold=threshold, measure=measure)  # type: ignore[arg-type]


def experiment(name: str) -> Experiment:
    return Experiment(
        id=name,
        title=f"Title & {name}",
        claim="the claim",
        source="the source",
        done="what was done",
        limits="the limits",
        minutes=(0.1, 0.1),
        parts=(
            part("one", measured, at_least(1)),
            part("two", counted, exactly(60_965_224)),
            part("three", unknown, at_least(0)),
        ),
    )


FIRST, SECOND = experiment("first"), experiment("second")


@pytest.fixture
def pages(tmp_path: Path) -> tuple[ET.Element, str]:
    """Of one experiment that was run, and one that was not."""
    ledger.run(FIRST, out=tmp_path / "results")
    html, markdown = write_reports(tmp_path / "results", (FIRST, SECOND))
    assert (html, markdown) == (tmp_path / "results.html", tmp_path / "results.md")
    return ET.fromstring(html.read_bytes()), markdown.read_text()


def text_of(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())


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
    assert [image.attrib["alt"] for image in images] == [CHART.alternative]
    plot = ET.fromstring(base64.b64decode(images[0].attrib["src"].partition(",")[2]))
    assert "A < B & C" in text_of(plot)
    assert f"![{CHART.alternative}](results/first/chart.svg)" in markdown


def test_it_says_everything_that_a_result_has(pages: tuple[ET.Element, str]) -> None:
    tree, markdown = pages
    page = text_of(tree)
    for told in ("the claim", "the source", "what was done", "the limits", "a note", "it takes a GPU", "1.5 s"):
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
    assert "2 of 3 parts tested" in page
    assert "**reproduced**, 2 of 3 parts tested" in markdown
    assert "1 claim: 1 reproduced, 0 not reproduced" in page
    # A link for each result; what was not run says so.
    assert [link.attrib["href"] for link in tree.iter(f"{HTML}a")] == ["#first"]
    assert "Title & second not run" in page.replace("secondnot", "second not")


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
    assert number(value) == words


def test_what_was_not_measured_has_no_number(tmp_path: Path) -> None:
    result = ledger.run(FIRST, out=tmp_path)
    assert [worded(one) for one in result.parts] == ["2.25 ± 0.35 (n = 2)", "60,965,224", "–"]
