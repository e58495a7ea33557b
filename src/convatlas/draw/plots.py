"""Training curves and the confusion matrix, as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Blue and orange that colour-blind people tell apart (Okabe and Ito 2008).
BLUE, ORANGE = "#0072B2", "#D55E00"


def curves(title: str, metrics: Sequence[Mapping[str, Any]]) -> bytes:
    """Training loss and error over the epochs, as SVG. Rows have `epoch`, `loss` and `accuracy`."""
    epochs = [row["epoch"] for row in metrics]
    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.add_subplot()
    right = left.twinx()
    left.plot(epochs, [row["loss"] for row in metrics], color=BLUE)
    # A finished network may make no error: a floor of a tenth of a percent keeps the line on the page.
    right.plot(epochs, [max(100 * (1 - row["accuracy"]), 0.1) for row in metrics], color=ORANGE)
    left.set_title(title, loc="left")
    left.set_xlabel("epoch")
    left.set_ylabel("training loss", color=BLUE)
    right.set_ylabel("training error, % (as augmented)", color=ORANGE)
    right.set_yscale("log")
    right.yaxis.set_major_formatter("{x:g}")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_ylim(bottom=0)
    left.grid(alpha=0.25)
    left.spines["top"].set_visible(False)
    right.spines["top"].set_visible(False)
    return _svg(figure)


def confusion(title: str, classes: Sequence[str], counts: npt.NDArray[np.int64]) -> bytes:
    """Counts (classes, classes), a row for each true class, as SVG; shaded by the part of the row."""
    num = len(classes)
    side = min(max(3.5, 1.8 + 0.42 * num), 14)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if num <= 30:
        for row, column in np.argwhere(counts > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
        upright = max(map(len, classes)) <= 2
        axes.set_xticks(range(num), classes, rotation=0 if upright else 90)
        axes.set_yticks(range(num), classes)
    axes.set_title(title, loc="left")
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    return _svg(figure)


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # The same run gives the same file: no date, and names of parts from a fixed salt.
    with mpl.rc_context({"svg.hashsalt": "convatlas", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
