"""Charts as data: what an experiment keeps as JSON, and draws as SVG and PNG."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from convatlas.draw.plots import BLUE, LONG, ORANGE, printable, rendered
from convatlas.files import tuples

# Okabe and Ito 2008, whom color-blind people can follow; the yellow is left out, which white paper swallows.
COLORS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""And those who see no colors."""
MARKED = 40
"""Points of a line up to which each is marked."""
DASHES: tuple[tuple[float, tuple[float, ...]], ...] = ((0, ()), (0, (4, 4)), (0, (1, 7)))
"""Of lines that lie on each other: through the gaps of an upper one those below are seen."""
NEAR = 0.01
"""Of the height of a chart: lines that nowhere are farther apart lie on each other."""


@dataclass(frozen=True)
class Series:
    """One line of a chart, or one row of bars."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    spread: tuple[float, ...] = ()
    """Standard deviation of each value, over the seeds; empty where there is none."""

    @classmethod
    def of(cls, name: str, x: Sequence[float], runs: Sequence[Sequence[float]]) -> Series:
        """The mean over runs, each with a value for each x."""
        values = np.asarray(runs, np.float64)
        spread = tuple(values.std(0, ddof=1).tolist()) if len(values) > 1 else ()
        return cls(name, tuple(map(float, x)), tuple(values.mean(0).tolist()), spread)


def in_words(series: Sequence[Series]) -> str:
    """Lines in words."""
    return "; ".join(
        f"{one.name}: from {one.y[0]:.3g} at {one.x[0]:.4g} to {one.y[-1]:.3g} at {one.x[-1]:.4g}"
        f" (lowest {min(one.y):.3g}, highest {max(one.y):.3g})"
        for one in series
    )


def on_each_other(series: Sequence[Series], *, log: bool) -> npt.NDArray[np.bool_]:
    """Whether each lies where each other does (n, n)."""
    heights = [np.log(one.y) if log else np.asarray(one.y) for one in series]
    near = NEAR * np.ptp(np.concatenate(heights))
    both = list(zip(series, heights, strict=True))
    return np.array(
        [[one.x == other.x and bool(np.abs(own - theirs).max() <= near) for other, theirs in both] for one, own in both]
    )


def draw_lines(axes: Axes, series: Sequence[Series], *, log: bool, points: bool = False, dashed: bool = False) -> None:
    together = on_each_other(series, log=log)
    for i, one in enumerate(series):
        color = COLORS[i % len(COLORS)]
        # Where colors begin again, markers are others.
        marker = MARKERS[(i + i // len(COLORS)) % len(MARKERS)] if len(one.x) <= MARKED else ""
        size = 4 + 2.5 * together[i, i + 1 :].sum()
        label = printable(one.name)
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
        line = (0, (4, 2)) if dashed or i >= len(COLORS) else DASHES[together[i, :i].sum() % len(DASHES)]
        axes.plot(one.x, one.y, color=color, marker=marker, markersize=size, linestyle=line, label=label)
        if one.spread:
            low, high = (np.add(one.y, sign * np.asarray(one.spread)) for sign in (-1, 1))
            axes.fill_between(one.x, low, high, color=color, alpha=0.15, linewidth=0)


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Series of numbers against numbers."""

    kind: ClassVar = "lines"

    name: str
    """Of its file."""
    title: str
    x: str
    """What the axis shows, with its unit."""
    y: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False
    threshold: float | None = None
    """A level of y that counts."""
    threshold_name: str = ""
    """What to call it; without a name, by its value."""
    points: bool = False
    """Points alone, where a line between them means nothing."""

    @property
    def alternative(self) -> str:
        """What it shows, for those who do not see it."""
        return f"{self.title}. {self.y} against {self.x}. {in_words(self.series)}."

    def draw(self, axes: Axes) -> None:
        draw_lines(axes, self.series, log=self.log_y, points=self.points)
        if self.log_x:
            axes.set_xscale("log")
            lowest, highest = min(min(one.x) for one in self.series), max(max(one.x) for one in self.series)
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest < LONG * lowest else (1,)))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.xaxis.set_major_formatter("{x:g}")
        if self.log_y:
            axes.set_yscale("log")
        if self.threshold is not None:
            axes.axhline(
                self.threshold,
                color="gray",
                linestyle=":",
                label=printable(self.threshold_name or f"{self.threshold:g}"),
            )
        axes.set_xlabel(self.x)
        axes.set_ylabel(self.y)
        axes.grid(alpha=0.25)


@dataclass(frozen=True, kw_only=True)
class Panels:
    """Lines beside each other, on the same axes."""

    kind: ClassVar = "panels"

    name: str
    title: str
    x: str
    y: str
    panels: tuple[tuple[str, tuple[Series, ...]], ...]
    """(name, lines)"""
    dashed: bool = False

    @property
    def alternative(self) -> str:
        of_each = "; ".join(f"{name}: {in_words(series)}" for name, series in self.panels)
        return f"{self.title}. {self.y} against {self.x}. {of_each}."


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A value for each of a few names, or one of each series."""

    kind: ClassVar = "bars"

    name: str
    title: str
    y: str
    labels: tuple[str, ...]
    series: tuple[Series, ...]
    """x is not read."""
    log_y: bool = False
    threshold: float | None = None

    @property
    def alternative(self) -> str:
        told = [
            f"{one.name}: " + ", ".join(f"{label} {y:.3g}" for label, y in zip(self.labels, one.y, strict=True))
            for one in self.series
        ]
        return f"{self.title}. {self.y}. {'; '.join(told)}."

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
                label=printable(one.name),
                error_kw={"capsize": 2, "linewidth": 1},
            )
            if len(places) * len(self.series) <= 16:
                # Above the whisker, where there is one.
                axes.bar_label(bars, fmt="%.3g", fontsize=9, padding=2)
        if self.log_y:
            axes.set_yscale("log")
        if self.threshold is not None:
            axes.axhline(self.threshold, color="gray", linestyle=":", label="threshold")
        long = max(map(len, self.labels)) * len(self.labels) > 60
        axes.set_xticks(places, [printable(label) for label in self.labels], rotation=30 if long else 0)
        if long:
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right")
        axes.margins(y=0.1)
        axes.set_ylabel(self.y)
        axes.grid(alpha=0.25, axis="y")


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Values over a square, as contours; several beside each other share their levels."""

    kind: ClassVar = "surface"

    name: str
    title: str
    x: str
    y: str
    places: tuple[float, ...]
    """Along both sides."""
    panels: tuple[tuple[str, tuple[tuple[float, ...], ...]], ...]
    """(name, values): a row for each place along y."""

    @property
    def alternative(self) -> str:
        told = [
            f"{name}: lowest {np.min(values):.3g}, in the middle {values[len(values) // 2][len(values) // 2]:.3g}, "
            f"highest {np.max(values):.3g}"
            for name, values in self.panels
        ]
        return f"{self.title}. {self.y} against {self.x}. {'; '.join(told)}."


Chart = Lines | Panels | Bars | Surface
CHARTS: Mapping[str, type[Chart]] = {kind.kind: kind for kind in (Lines, Panels, Bars, Surface)}
"""By the name that a record calls them."""


def chart_values(chart: Chart) -> dict[str, Any]:
    """The chart for JSON."""
    return {"kind": chart.kind} | dataclasses.asdict(chart)


def chart_from(values: Mapping[str, Any]) -> Chart:
    """The chart that `chart_values` was made of."""
    rest = {name: tuples(value) for name, value in values.items() if name != "kind"}
    if "series" in rest:
        rest["series"] = tuple(Series(**one) for one in rest["series"])
    if values["kind"] == Panels.kind:
        rest["panels"] = tuple((name, tuple(Series(**one) for one in series)) for name, series in rest["panels"])
    return CHARTS[values["kind"]](**rest)


def chart(chart: Chart, form: str) -> bytes:
    """The chart drawn.

    Args:
        form: "svg" or "png".
    """
    if isinstance(chart, Surface):
        figure = Figure(figsize=(4.2 * len(chart.panels), 4.2), layout="constrained")
        _surface(figure, chart)
    elif isinstance(chart, Panels):
        figure = Figure(figsize=(4.2 * len(chart.panels), 4.2), layout="constrained")
        _panels(figure, chart)
    else:
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.add_subplot()
        chart.draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        if len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend(frameon=False, fontsize=9)
        axes.set_title(printable(chart.title), loc="left", parse_math=False)
    return rendered(figure, form)


def _panels(figure: Figure, chart: Panels) -> None:
    beside = np.atleast_1d(figure.subplots(1, len(chart.panels), sharex=True, sharey=True))
    for axes, (name, series) in zip(beside, chart.panels, strict=True):
        draw_lines(axes, series, log=False, dashed=chart.dashed)
        axes.set_title(printable(name), fontsize=10)
        axes.set_xlabel(chart.x)
        axes.legend(frameon=False, fontsize=9)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    beside[0].set_ylabel(chart.y)
    beside[0].set_ylim(bottom=0)
    figure.suptitle(printable(chart.title), x=0.01, ha="left", fontsize=12)


def _surface(figure: Figure, chart: Surface) -> None:
    everything = np.asarray([values for _, values in chart.panels])
    # Losses grow by powers: even steps of the logarithm.
    levels = np.geomspace(everything.min(), everything.max(), 18)
    panels = np.atleast_1d(figure.subplots(1, len(chart.panels), sharey=True))
    for axes, (name, values) in zip(panels, chart.panels, strict=True):
        axes.contourf(chart.places, chart.places, values, levels, cmap="viridis", norm="log")
        lines = axes.contour(chart.places, chart.places, values, levels, colors="white", linewidths=0.5)
        axes.clabel(lines, lines.levels[::3], fontsize=7, fmt="%.2g")
        axes.set_title(printable(name), fontsize=10)
        axes.set_xlabel(chart.x)
        axes.set_aspect("equal")
    panels[0].set_ylabel(chart.y)
    figure.suptitle(printable(chart.title), x=0.01, ha="left", fontsize=12)
