"""Training curves, the confusion matrix and the reliability diagram, as SVG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from rich.cells import cell_len

from convatlas.formatting import shorten, visible

# Blue and orange that color-blind readers tell apart (Okabe and Ito 2008).
BLUE, ORANGE = "#0072B2", "#D55E00"

MAX_LABELED_CLASSES = 30
"""A confusion matrix of more classes shows neither names nor counts."""
MAX_NAME_COLUMNS = 40
"""Of a longer name a chart shows the beginning and the end, and all of it to a pointer."""
COLUMNS_PER_INCH = 10
"""Of a title, roughly."""

LOG_RATIO, DECADES_RATIO = 5, 1000
"""Highest value over lowest: above the first an axis is logarithmic, above the second it is labeled at powers of ten
only."""

PNG_DPI = 160


def label(name: str) -> str:
    """A name on one line that leaves a chart its room."""
    return shorten(visible(name), MAX_NAME_COLUMNS)


def fitting_title(title: str, width: float) -> str:
    """The title with lines for so many inches."""
    return "\n".join(shorten(visible(line), int(COLUMNS_PER_INCH * width)) for line in title.split("\n"))


def training_curves(title: str, metrics: Sequence[Mapping[str, Any]]) -> bytes:
    """Loss and error rate over the epochs, as SVG.

    Args:
        metrics: a row for each epoch with `epoch`, `loss` and `accuracy` (a fraction) on the augmented training images,
            and with `val_loss` and `val_accuracy` if there are validation images.
    """
    epochs = [row["epoch"] for row in metrics]
    shown = {"training": ("", "-")}
    if all("val_loss" in row for row in metrics):
        shown["validation"] = ("val_", "--")
    losses = {label: [row[f"{prefix}loss"] for row in metrics] for label, (prefix, _) in shown.items()}
    errors = {label: [100 * (1 - row[f"{prefix}accuracy"]) for row in metrics] for label, (prefix, _) in shown.items()}
    figure = Figure(figsize=(7, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.set_title(fitting_title(title, 6), loc="left", parse_math=False)
    upper.set_ylabel("training loss" if len(shown) == 1 else "loss")
    lower.set_ylabel("training error, %" if len(shown) == 1 else "error, %")
    lower.set_xlabel("epoch (training loss and error are on augmented images)")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    lower.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    for axes, lines, color in ((upper, losses, BLUE), (lower, errors, ORANGE)):
        for label, values in lines.items():
            marker = "." if len(epochs) == 1 else None
            axes.plot(epochs, values, color=color, linestyle=shown[label][1], marker=marker, label=label)
        lowest, highest = min(map(min, lines.values())), max(map(max, lines.values()))
        # A logarithmic axis shows late epochs as well as early ones, but no 0, and no round numbers in a short range.
        if 0 < LOG_RATIO * lowest < highest:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest < DECADES_RATIO * lowest else (1,)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if len(lines) > 1:
            axes.legend(frameon=False)
    return render(figure)


def confusion_matrix(title: str, classes: Sequence[str], counts: npt.NDArray[np.int64]) -> bytes:
    """A confusion matrix, as SVG. Its color is the fraction of the row, that is, of the true class.

    Args:
        counts: images (true class, predicted class).
    """
    num, names = len(classes), [label(name) for name in classes]
    # Without names and counts, a larger plot shows no more.
    side = min(max(4.0, 2 + 0.08 * max(map(cell_len, names)) + 0.42 * num), 14) if num <= MAX_LABELED_CLASSES else 8
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    full_names: dict[str, str] = {}
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    if num <= MAX_LABELED_CLASSES:
        for row, column in np.argwhere(counts > 0):
            color = "white" if fractions[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=8)
        short = max(map(cell_len, names)) <= 2
        axes.set_xticks(range(num), names, rotation=0 if short else 90, parse_math=False)
        axes.set_yticks(range(num), names, parse_math=False)
        for axis, line in ((axes.xaxis, "column"), (axes.yaxis, "row")):
            for place, text in enumerate(axis.get_ticklabels()):
                if names[place] != classes[place]:
                    text.set_gid(f"{line}-{place}")
                    full_names[f"{line}-{place}"] = classes[place]
    # Over the names too: beside long ones, the matrix alone is narrow.
    figure.suptitle(fitting_title(title, side), x=0.01, ha="left", fontsize=10, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return with_tooltips(render(figure), full_names)


def reliability_diagram(
    counts: npt.NDArray[np.int64], confidence: npt.NDArray[np.float64], accuracy: npt.NDArray[np.float64]
) -> bytes:
    """A reliability diagram above the fraction of images in each bin (Guo et al. 2017, figure 1), as SVG.

    Args:
        counts: images in each bin (bins,); the bins divide confidences from 0 to 1 evenly.
        confidence: mean confidence of the predictions in each bin (bins,), fractions.
        accuracy: fraction of them that are correct (bins,).
    """
    num = len(counts)
    filled = counts > 0
    middles = (np.arange(num) + 0.5) / num
    figure = Figure(figsize=(5, 5.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.bar(middles[filled], accuracy[filled], width=0.9 / num, color=BLUE, label="accuracy")
    upper.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--", label="perfect calibration")
    # Between confidence and accuracy.
    upper.vlines(confidence[filled], confidence[filled], accuracy[filled], color=ORANGE, linewidth=2, label="gap")
    upper.plot(confidence[filled], confidence[filled], ".", color=ORANGE)
    upper.set_ylabel("accuracy")
    upper.set_ylim(0, 1)
    figure.legend(frameon=False, loc="outside upper center", ncols=3)
    lower.bar(middles, 100 * counts / max(counts.sum(), 1), width=0.9 / num, color="gray")
    lower.set_ylabel("images, %")
    lower.set_xlabel("confidence")
    lower.set_xlim(0, 1)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return render(figure)


def lr_finder_curve(title: str, lrs: Sequence[float], losses: Sequence[float], suggestion: float) -> bytes:
    """The smoothed loss of a learning rate finder against the learning rate, and the suggested one, as SVG."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(fitting_title(title, 6), loc="left", parse_math=False)
    axes.plot(lrs, losses, color=BLUE)
    axes.axvline(suggestion, color=ORANGE, linestyle="--")
    axes.annotate(
        f"{suggestion:.1e}", (suggestion, max(losses)), (4, -4), textcoords="offset points", color=ORANGE, va="top"
    )
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("smoothed training loss")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return render(figure)


UNTOLD = {"svg": ("Date",), "png": ("Software",), "pdf": ("CreationDate", "Creator", "Producer")}
"""What files do not say, so that the same chart gives the same bytes."""


def render(figure: Figure, file_format: str = "svg") -> bytes:
    """The figure as a file's content: the same bytes for the same figure.

    Args:
        file_format: "svg", "pdf", or "png" at a size for slides.
    """
    buffer = io.BytesIO()
    # Without a date, and with element ids from a fixed salt.
    metadata = dict.fromkeys(UNTOLD[file_format])
    with mpl.rc_context({"svg.hashsalt": "convatlas", "svg.fonttype": "none"}), warnings.catch_warnings():
        # The file holds text, not shapes: its viewer has the letters that matplotlib's font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, format=file_format, metadata=metadata, dpi=PNG_DPI)
    return buffer.getvalue()


def with_tooltips(svg: bytes, texts: Mapping[str, str]) -> bytes:
    """The SVG with a tooltip on each element that `texts` has one for, by its id."""
    for element, text in texts.items():
        opening = f'<g id="{element}">'
        svg = svg.replace(opening.encode(), f"{opening}<title>{escape(visible(text))}</title>".encode())
    return svg
