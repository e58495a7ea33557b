"""Charts as data: experiments keep them as JSON and draw them as SVG and PNG."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from convatlas.draw.plots import BLUE, DECADES_RATIO, ORANGE, render
from convatlas.files import tuples
from convatlas.formatting import visible

# Okabe and Ito 2008: color-blind readers tell them apart. Without the yellow, which is faint on white.
COLORS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# For readers who see no colors.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MAX_MARKED_POINTS = 40
"""A line with more points has no markers."""
DASHES: tuple[tuple[float, tuple[float, ...]], ...] = ((0, ()), (0, (4, 4)), (0, (1, 7)))
"""Of overlapping lines: through the gaps of an upper one those below are seen."""
OVERLAP = 0.01
"""Lines overlap that are nowhere farther apart than this fraction of the chart's height."""


@dataclass(frozen=True)
class Series:
    """One line of a chart, or one bar in each group of bars."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    spread: tuple[float, ...] = ()
    """Standard deviation over the seeds, on a logarithmic axis that of the logarithm; empty if there is one seed."""

    @classmethod
    def mean_of_runs(cls, name: str, x: Sequence[float], runs: Sequence[Sequence[float]]) -> Series:
        """The mean over runs with its standard deviation.

        Args:
            runs: each has a value for each x.
        """
        values = np.asarray(runs, np.float64)
        spread = tuple(values.std(0, ddof=1).tolist()) if len(values) > 1 else ()
        return cls(name, tuple(map(float, x)), tuple(values.mean(0).tolist()), spread)

    @classmethod
    def geometric_mean_of_runs(cls, name: str, x: Sequence[float], runs: Sequence[Sequence[float]]) -> Series:
        """The same of positive values on a logarithmic axis."""
        logs = cls.mean_of_runs(name, x, np.log(runs).tolist())
        return replace(logs, y=tuple(np.exp(logs.y).tolist()))


def describe_lines(series: Sequence[Series]) -> str:
    """Ends and extremes of each line, as text."""
    return "; ".join(
        f"{one.name}: from {one.y[0]:.3g} at {one.x[0]:.4g} to {one.y[-1]:.3g} at {one.x[-1]:.4g}"
        f" (lowest {min(one.y):.3g}, highest {max(one.y):.3g})"
        for one in series
    )


def overlaps(series: Sequence[Series], *, log: bool) -> npt.NDArray[np.bool_]:
    """Whether each line overlaps each other (n, n)."""
    heights = [np.log(one.y) if log else np.asarray(one.y) for one in series]
    near = OVERLAP * np.ptp(np.concatenate(heights))
    both = list(zip(series, heights, strict=True))
    return np.array(
        [[one.x == other.x and bool(np.abs(own - theirs).max() <= near) for other, theirs in both] for one, own in both]
    )


def draw_lines(axes: Axes, series: Sequence[Series], *, log: bool, points: bool = False, dashed: bool = False) -> None:
    overlapping = overlaps(series, log=log)
    for i, one in enumerate(series):
        color = COLORS[i % len(COLORS)]
        # Where colors repeat, markers differ.
        marker = MARKERS[(i + i // len(COLORS)) % len(MARKERS)] if len(one.x) <= MAX_MARKED_POINTS else ""
        size = 4 + 2.5 * overlapping[i, i + 1 :].sum()
        label = visible(one.name)
        if points:
            axes.errorbar(
                one.x,
                one.y,
                one.spread or None,
                fmt=marker or "o",
                color=color,
                markersize=size,
                capsize=3,
                label=label,
            )
            continue
        line = (0, (4, 2)) if dashed or i >= len(COLORS) else DASHES[overlapping[i, :i].sum() % len(DASHES)]
        axes.plot(one.x, one.y, color=color, marker=marker, markersize=size, linestyle=line, label=label)
        if one.spread:
            spread = np.asarray(one.spread)
            low, high = (one.y * np.exp(sign * spread) if log else one.y + sign * spread for sign in (-1, 1))
            axes.fill_between(one.x, low, high, color=color, alpha=0.15, linewidth=0)


MARK_DASHES = (":", "-.", "--")


def draw_marks(axes: Axes, marks: Sequence[tuple[str, float]], x_marks: Sequence[tuple[str, float]] = ()) -> None:
    """Horizontal and then vertical lines with names."""
    lines = [(axes.axhline, *mark) for mark in marks] + [(axes.axvline, *mark) for mark in x_marks]
    for (draw, name, value), dashes in zip(lines, cycle(MARK_DASHES), strict=False):
        draw(value, color="gray", linestyle=dashes, label=visible(name))


@dataclass(frozen=True, kw_only=True)
class Lines:
    """A line chart."""

    kind: ClassVar = "lines"

    name: str
    """Of its file, without the suffix."""
    title: str
    x: str
    """Label of the axis, with the unit."""
    y: str
    """Label of the axis, with the unit."""
    series: tuple[Series, ...]
    subtitle: str = ""
    """What it rests on: data set, networks, epochs, number of seeds."""
    log_x: bool = False
    log_y: bool = False
    lowest_y: float | None = None
    """Where the axis begins, if not with the lowest value: lines may fall out of it."""
    highest_y: float | None = None
    """Where the axis ends at the latest, as where no percentage is larger."""
    marks: tuple[tuple[str, float], ...] = ()
    """Values of y to mark with horizontal lines, as a paper's own: (name, value)."""
    x_marks: tuple[tuple[str, float], ...] = ()
    """Values of x to mark with vertical lines."""
    points: bool = False
    """Draw points without lines between them."""

    @property
    def alt_text(self) -> str:
        """What the chart shows, for readers who do not see it."""
        return f"{self.title}. {self.y} against {self.x}. {describe_lines(self.series)}."

    def draw(self, axes: Axes) -> None:
        draw_lines(axes, self.series, log=self.log_y, points=self.points)
        if self.log_x:
            axes.set_xscale("log")
            lowest, highest = min(min(one.x) for one in self.series), max(max(one.x) for one in self.series)
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest < DECADES_RATIO * lowest else (1,)))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.xaxis.set_major_formatter("{x:g}")
        elif all(x == int(x) for one in self.series for x in one.x):
            # Between whole numbers, as of layers or epochs, there is nothing.
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=(1, 2, 5, 10)))
        if self.log_y:
            axes.set_yscale("log")
        if self.lowest_y is not None:
            axes.set_ylim(bottom=self.lowest_y)
        if self.highest_y is not None:
            axes.set_ylim(top=min(axes.get_ylim()[1], self.highest_y))
        draw_marks(axes, self.marks, self.x_marks)
        axes.set_xlabel(self.x)
        axes.set_ylabel(self.y)
        axes.grid(alpha=0.25)


@dataclass(frozen=True, kw_only=True)
class Panels:
    """Line charts side by side, with shared axes."""

    kind: ClassVar = "panels"

    name: str
    title: str
    x: str
    y: str
    panels: tuple[tuple[str, tuple[Series, ...]], ...]
    """(title, lines) of each."""
    subtitle: str = ""
    """What it rests on: data set, networks, epochs, number of seeds."""
    dashed: bool = False

    @property
    def alt_text(self) -> str:
        of_each = "; ".join(f"{name}: {describe_lines(series)}" for name, series in self.panels)
        return f"{self.title}. {self.y} against {self.x}. {of_each}."


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A bar chart: a group of bars for each label, with a bar for each series."""

    kind: ClassVar = "bars"

    name: str
    title: str
    y: str
    labels: tuple[str, ...]
    series: tuple[Series, ...]
    """Their `x` is not used."""
    subtitle: str = ""
    """What it rests on: data set, networks, epochs, number of seeds."""
    log_y: bool = False
    marks: tuple[tuple[str, float], ...] = ()
    """Values of y to mark with horizontal lines, as a paper's own: (name, value)."""

    @property
    def alt_text(self) -> str:
        parts = [
            f"{one.name}: " + ", ".join(f"{label} {y:.3g}" for label, y in zip(self.labels, one.y, strict=True))
            for one in self.series
        ]
        return f"{self.title}. {self.y}. {'; '.join(parts)}."

    def draw(self, axes: Axes) -> None:
        places = np.arange(len(self.labels))
        width = 0.8 / len(self.series)
        for i, one in enumerate(self.series):
            left = places + (i - (len(self.series) - 1) / 2) * width
            bars = axes.bar(
                left,
                one.y,
                width * 0.92,
                yerr=one.spread or None,
                color=COLORS[i % len(COLORS)],
                label=visible(one.name),
                error_kw={"capsize": 2, "linewidth": 1},
            )
            if len(places) * len(self.series) <= 16:
                # Above the error bar, if there is one.
                axes.bar_label(bars, fmt="%.3g", fontsize=9, padding=2)
        if self.log_y:
            axes.set_yscale("log")
        draw_marks(axes, self.marks)
        long = max(map(len, self.labels)) * len(self.labels) > 60
        axes.set_xticks(places, [visible(label) for label in self.labels], rotation=30 if long else 0)
        if long:
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right")
        axes.margins(y=0.1)
        axes.set_ylabel(self.y)
        axes.grid(alpha=0.25, axis="y")
        axes.set_axisbelow(True)


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Contour plots of values over a square, side by side, with shared levels."""

    kind: ClassVar = "surface"

    name: str
    title: str
    x: str
    y: str
    places: tuple[float, ...]
    """Coordinates along both axes."""
    panels: tuple[tuple[str, tuple[tuple[float, ...], ...]], ...]
    """(title, values) of each; `values` has a row for each y."""
    value: str = ""
    """What the values are, for the color bar."""
    subtitle: str = ""
    """What it rests on: data set, networks, epochs, number of seeds."""

    @property
    def alt_text(self) -> str:
        parts = [
            f"{name}: lowest {np.min(values):.3g}, in the middle {values[len(values) // 2][len(values) // 2]:.3g}, "
            f"highest {np.max(values):.3g}"
            for name, values in self.panels
        ]
        return f"{self.title}. {self.y} against {self.x}. {'; '.join(parts)}."


Chart = Lines | Panels | Bars | Surface
CHARTS: Mapping[str, type[Chart]] = {kind.kind: kind for kind in (Lines, Panels, Bars, Surface)}
"""By their `kind` in JSON."""


def chart_to_json(chart: Chart) -> dict[str, Any]:
    """The chart as JSON values."""
    return {"kind": chart.kind} | dataclasses.asdict(chart)


def chart_from_json(values: Mapping[str, Any]) -> Chart:
    """The chart from what `chart_to_json` returned."""
    rest = {name: tuples(value) for name, value in values.items() if name != "kind"}
    if "series" in rest:
        rest["series"] = tuple(Series(**one) for one in rest["series"])
    if values["kind"] == Panels.kind:
        rest["panels"] = tuple((name, tuple(Series(**one) for one in series)) for name, series in rest["panels"])
    return CHARTS[values["kind"]](**rest)


def render_chart(chart: Chart, file_format: str) -> bytes:
    """The chart as a file's content.

    Args:
        file_format: "svg", "pdf" or "png".
    """
    return render(figure_of(chart), file_format)


def figure_of(chart: Chart) -> Figure:
    """The chart as matplotlib draws it; long titles go over several lines."""
    if isinstance(chart, Surface | Panels):
        figure = Figure(figsize=(4.2 * len(chart.panels), 4.2), layout="constrained")
        if isinstance(chart, Surface):
            _surface(figure, chart)
        else:
            _panels(figure, chart)
        subtitle = f"\n{visible(chart.subtitle)}" if chart.subtitle else ""
        figure.suptitle(f"{visible(chart.title)}{subtitle}", x=0.01, ha="left", fontsize=12, wrap=True)
        return figure
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    chart.draw(axes)
    axes.spines[["top", "right"]].set_visible(False)
    if len(axes.get_legend_handles_labels()[0]) > 1:
        axes.legend(frameon=False, fontsize=9)
    title = visible(chart.title)
    if chart.subtitle:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, wrap=True)
        subtitle = visible(chart.subtitle)
        axes.set_title(subtitle, loc="left", fontsize=9, color="dimgray", parse_math=False, wrap=True)
    else:
        axes.set_title(title, loc="left", parse_math=False, wrap=True)
    return figure


def _panels(figure: Figure, chart: Panels) -> None:
    beside = np.atleast_1d(figure.subplots(1, len(chart.panels), sharex=True, sharey=True))
    for axes, (name, series) in zip(beside, chart.panels, strict=True):
        draw_lines(axes, series, log=False, dashed=chart.dashed)
        axes.set_title(visible(name), fontsize=10)
        axes.set_xlabel(chart.x)
        axes.legend(frameon=False, fontsize=9)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    beside[0].set_ylabel(chart.y)
    beside[0].set_ylim(bottom=0)


ROUND = (1.0, 2.0, 5.0)
"""Of each power of ten, the levels of a contour plot whose values span several."""


def round_levels(lowest: float, highest: float) -> list[float]:
    """1, 2 and 5 times powers of ten, from below the lowest to above the highest value."""
    powers = range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1)
    levels = [digit * 10.0**power for power in powers for digit in ROUND]
    first = max(i for i, level in enumerate(levels) if level <= lowest)
    last = min(i for i, level in enumerate(levels) if level >= highest)
    return levels[first : max(last, first + 1) + 1]


def _surface(figure: Figure, chart: Surface) -> None:
    everything = np.asarray([values for _, values in chart.panels])
    # Losses span orders of magnitude, so the levels are even in the logarithm.
    levels = round_levels(float(everything.min()), float(everything.max()))
    panels = np.atleast_1d(figure.subplots(1, len(chart.panels), sharey=True))
    for axes, (name, values) in zip(panels, chart.panels, strict=True):
        filled = axes.contourf(chart.places, chart.places, values, levels, cmap="viridis", norm="log")
        axes.contour(chart.places, chart.places, values, levels, colors="white", linewidths=0.5)
        axes.set_title(visible(name), fontsize=10)
        axes.set_xlabel(chart.x)
        axes.set_aspect("equal")
    bar = figure.colorbar(filled, ax=panels.tolist(), shrink=0.8, label=visible(chart.value))
    bar.set_ticks(levels, labels=[f"{level:g}" for level in levels])
    bar.ax.minorticks_off()
    panels[0].set_ylabel(chart.y)
