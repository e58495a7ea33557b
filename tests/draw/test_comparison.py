"""The picture of networks side by side: every figure is there, and areas are in proportion."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from convatlas import atlas
from convatlas.draw import comparison
from convatlas.draw.comparison import MAX_RADIUS, published_error
from convatlas.formatting import round_count
from convatlas.measure import summarize
from convatlas.spec import Claim

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ("lenet5", "vgg16", "googlenet", "alexnet-bn", "resnet110-preact-cifar")


@pytest.fixture(scope="module")
def summaries() -> list:
    return [summarize(atlas.find(name)) for name in NAMES]


def test_every_network_has_a_row_with_its_figures(summaries: list) -> None:
    rows = ET.fromstring(comparison(summaries)).findall(f"{SVG}g")
    assert len(rows) == len(summaries)
    for row, summary in zip(rows, summaries, strict=True):
        name, *texts = [text.text or "" for text in row.findall(f"{SVG}text")]
        beginning, _, end = name.partition("…")
        assert summary.variant.name.startswith(beginning)
        assert summary.variant.name.endswith(end)
        assert texts == [
            str(summary.variant.paper.year),
            str(summary.layers.depth),
            round_count(summary.footprint.params),
            round_count(summary.footprint.macs),
            *published_error(summary.variant),
        ]


@pytest.mark.parametrize(("column", "figure"), [(0, "params"), (1, "macs")])
def test_areas_are_in_proportion(summaries: list, column: int, figure: str) -> None:
    rows = ET.fromstring(comparison(summaries)).findall(f"{SVG}g")
    radii = [float(row.findall(f"{SVG}circle")[column].get("r", "")) for row in rows]
    values = [getattr(summary.footprint, figure) for summary in summaries]
    assert max(radii) == MAX_RADIUS
    for radius, value in zip(radii, values, strict=True):
        assert radius == pytest.approx(MAX_RADIUS * (value / max(values)) ** 0.5, abs=0.01)


def test_readers_who_do_not_see_it_get_the_same(summaries: list) -> None:
    text = ET.fromstring(comparison(summaries)).findtext(f"{SVG}desc")
    assert text is not None
    assert text.startswith("lenet5, 1998: depth 5, 60.0 K parameters, 327 K MACs, error 0.95 % (MNIST); vgg16, 2014: ")
    assert "; alexnet-bn, 2012: depth 8, 61.0 M parameters, 724 M MACs; " in text


def test_it_loads_nothing_from_elsewhere(summaries: list) -> None:
    page = comparison(summaries).decode().replace("http://www.w3.org/2000/svg", "")
    assert not any(word in page for word in ("http", "url(", "@import", "href", "<script"))


@pytest.mark.parametrize(
    ("figure", "printed", "shown"),
    [
        ("test error on MNIST", "0.95 %", ("0.95 %", "MNIST")),
        ("test error on US zip codes", "5.0 %", ("5.0 %", "US zip codes")),
        ("top-1 error on ILSVRC-2012 validation, single scale 256", "27.0 %", ("27.0 %", "top-1, ILSVRC-2012")),
        ("top-1 accuracy on ImageNet", "57.5 %", ("42.5 %", "top-1, ImageNet")),
        ("top-1 accuracy on ImageNet", "60 %", ("40 %", "top-1, ImageNet")),
        ("weeks of training", "2", ("", "")),
    ],
)
def test_an_error_is_as_the_paper_prints_it(figure: str, printed: str, shown: tuple[str, str]) -> None:
    counted = Claim("weights not 0", "33 %", "section 4", count=lambda table: 33)
    variant = replace(atlas.find("lenet5"), claims=(counted, Claim(figure, printed, "Table 1")))
    assert published_error(variant) == shown
