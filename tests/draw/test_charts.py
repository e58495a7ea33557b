"""Charts as data: they return from JSON, are drawn the same each time, and have a text of what they show."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from convatlas.draw import Bars, Chart, Lines, Panels, Series, Surface, chart_from_json, chart_to_json, render_chart
from convatlas.draw.charts import draw_lines, figure_of, overlaps, round_levels

pytestmark = pytest.mark.usefixtures("drawn")

HILL = tuple(tuple(float(x * x + y * y + 1) for x in range(-3, 4)) for y in range(-3, 4))
CHARTS: dict[str, Chart] = {
    "lines": Lines(
        name="depth", title="Plain & deep <20 layers>", x="layers", y="error, %",
        series=(Series("plain", (20.0, 56.0), (5.0, 9.0), (0.5, 0.7)), Series("residual", (20.0, 56.0), (5.0, 4.0))),
        marks=(("paper: 7 %", 7.0), ("half of the way", 6.0)), x_marks=(("paper: at 30", 30.0),),
        subtitle="CIFAR-10, 3 seeds", lowest_y=3.0,
    ),
    "panels": Panels(
        name="panels", title="Beside each other", x="iterations", y="error, %", dashed=True,
        panels=(
            ("plain", (Series("plain-20", (1.0, 2.0), (9.0, 5.0), (1.0, 1.0)),)),
            ("residual", (Series("resnet-20", (1.0, 2.0), (8.0, 4.0)), Series("resnet-56", (1.0, 2.0), (8.0, 3.0)))),
        ),
    ),
    "logarithms": Lines(
        name="norms", title="Norms", x="layer", y="norm", log_x=True, log_y=True,
        series=(Series("one", tuple(map(float, range(1, 101))), tuple(10.0**-i for i in range(100))),),
    ),
    "points": Lines(
        name="p", title="P", x="MACs", y="%", points=True, series=(Series("a", (1.0, 2.0), (2.0, 1.0), (0.5, 0.1)),),
    ),
    "bars": Bars(
        name="bars", title="Cost", y="ms", labels=("VGG", "GoogLeNet"), log_y=True,
        series=(Series("forward", (), (3.0, 1.0), (0.1, 0.1)), Series("training", (), (9.0, 3.5))),
        marks=(("paper: 2", 2.0),),
    ),
    "surface": Surface(
        name="surface", title="Loss", x="first", y="second", places=tuple(map(float, range(-3, 4))),
        panels=(("plain", HILL), ("residual", HILL)), value="training loss", subtitle="56 layers",
    ),
}  # fmt: skip
every_chart = pytest.mark.parametrize("given", CHARTS.values(), ids=CHARTS)


def texts(svg: bytes) -> str:
    return " ".join("".join(text.itertext()) for text in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"))


@pytest.mark.parametrize("highest", [99.9, 60.0])
def test_an_axis_of_percentages_ends_with_the_largest(highest: float) -> None:
    axes = Figure().subplots()
    Lines(
        name="p", title="P", x="MB", y="%", points=True, highest_y=100.0,
        series=(Series("a", (1.0,), (highest,)), Series("b", (2.0,), (50.0,))),
    ).draw(axes)  # fmt: skip
    assert highest < axes.get_ylim()[1] <= 100


@every_chart
def test_a_chart_returns_from_json(given: Chart) -> None:
    assert chart_from_json(json.loads(json.dumps(chart_to_json(given)))) == given


@every_chart
def test_the_same_chart_is_the_same_file(given: Chart) -> None:
    drawn = render_chart(given, "svg")
    assert drawn == render_chart(given, "svg")
    assert drawn.startswith(b"<?xml")


@pytest.mark.parametrize(("file_format", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_same_chart_is_the_same_file_for_slides_and_papers(file_format: str, begins: bytes) -> None:
    drawn = render_chart(CHARTS["bars"], file_format)
    assert drawn == render_chart(CHARTS["bars"], file_format)
    assert drawn.startswith(begins)


@every_chart
def test_what_is_drawn_is_named(given: Chart) -> None:
    shown = texts(render_chart(given, "svg"))
    assert given.title in shown
    for label in (given.y, *([] if isinstance(given, Bars) else [given.x])):
        assert label in shown
    if isinstance(given, Surface):
        names = [name for name, _ in given.panels]
    elif isinstance(given, Panels):
        names = [name for panel, series in given.panels for name in (panel, *(one.name for one in series))]
    else:
        # Of one line alone the axis says enough.
        names = [one.name for one in given.series] if len(given.series) > 1 else []
    assert all(name in shown for name in names)


def test_the_alt_text_gives_the_figures() -> None:
    text = CHARTS["lines"].alt_text
    assert "Plain & deep <20 layers>. error, % against layers." in text
    assert "plain: from 5 at 20 to 9 at 56 (lowest 5, highest 9)" in text
    assert "residual: resnet-20: from 8 at 1 to 4 at 2" in CHARTS["panels"].alt_text
    assert "forward: VGG 3, GoogLeNet 1; training: VGG 9, GoogLeNet 3.5" in CHARTS["bars"].alt_text
    assert "plain: lowest 1, in the middle 1, highest 19" in CHARTS["surface"].alt_text


def test_marks_and_subtitles_are_written_out() -> None:
    drawn = texts(render_chart(CHARTS["lines"], "svg"))
    for words in ("paper: 7 %", "half of the way", "paper: at 30", "CIFAR-10, 3 seeds"):
        assert words in drawn
    assert "paper: 2" in texts(render_chart(CHARTS["bars"], "svg"))


@every_chart
def test_no_long_title_is_cut_off(given: Chart) -> None:
    figure = figure_of(replace(given, title="A long title " * 8, subtitle="CIFAR-10, 41,000 training images, " * 8))
    FigureCanvasAgg(figure).draw()
    for words in ("long title", "41,000"):
        shown = next(text for text in figure.findobj(Text) if words in text.get_text())
        bounds = shown.get_window_extent()
        assert 0 <= bounds.x0 < bounds.x1 <= figure.bbox.x1


def test_a_surface_has_a_bar_of_round_levels() -> None:
    drawn = texts(render_chart(CHARTS["surface"], "svg"))
    for words in ("training loss", "56 layers", "1", "2", "5", "10", "20"):
        assert words in drawn.split() or words in drawn


@pytest.mark.parametrize(
    ("lowest", "highest", "levels"),
    [
        (1.0, 19.0, [1, 2, 5, 10, 20]),
        (0.3, 0.4, [0.2, 0.5]),
        (2.0, 2.0, [2, 5]),
        (0.011, 120, [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200]),
    ],
)
def test_levels_are_round_and_hold_all_values(lowest: float, highest: float, levels: list[float]) -> None:
    assert round_levels(lowest, highest) == pytest.approx(levels)


def test_a_logarithmic_axis_has_means_and_spreads_of_logarithms() -> None:
    found = Series.geometric_mean_of_runs("a", (1, 2), [(1.0, 5.0), (100.0, 5.0)])
    assert found.y == pytest.approx((10.0, 5.0))
    assert found.spread == pytest.approx((np.log(10) * 2**0.5, 0.0))
    axes = Figure().add_subplot()
    draw_lines(axes, (found,), log=True)
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    factor = np.exp(found.spread[0])
    assert (heights.min(), heights.max()) == pytest.approx((10 / factor, 10 * factor))


def test_overlapping_lines_are_noticed() -> None:
    x = (1.0, 2.0)
    series = (Series("a", x, (1.0, 100.0)), Series("b", x, (1.01, 99.5)), Series("c", x, (50.0, 1.0)))
    assert overlaps(series, log=False).tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    # On a logarithmic axis small values count as much.
    small = (Series("a", x, (1e-9, 1.0)), Series("b", x, (1e-3, 1.0)))
    assert overlaps(small, log=False).all()
    assert not overlaps(small, log=True)[0, 1]
    assert not overlaps((Series("a", (1.0,), (1.0,)), Series("b", x, (1.0, 1.0))), log=False)[0, 1]


def test_a_figure_stands_above_its_error_bar() -> None:
    axes = Figure().add_subplot()
    Bars(name="b", title="B", y="y", labels=("a",), series=(Series("s", (), (3.0,), (2.0,)),)).draw(axes)
    (label,) = axes.texts
    assert (label.get_text(), label.xy) == ("3", (0, 5.0))


def test_a_series_of_runs_is_their_mean_and_std() -> None:
    assert Series.mean_of_runs("a", [1, 2], [[1, 5], [3, 5]]) == Series(
        "a", (1.0, 2.0), (2.0, 5.0), (np.sqrt(2).item(), 0.0)
    )
    assert Series.mean_of_runs("a", [1], [[4]]).spread == ()


def test_names_that_no_page_can_show_are_drawn() -> None:
    odd = Lines(name="o", title="\x00 $x$", x="x", y="y", series=(Series("a\x07", (1.0,), (1.0,)),) * 2)
    ET.fromstring(render_chart(odd, "svg"))
