"""Training curves and the confusion matrix, as SVG."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Blue and orange that colour-blind people tell apart (Okabe and Ito 2008).
BLUE, ORANGE = "#0072B2", "#D55E00"

LABELLED = 30
"""Classes up to which a confusion matrix has its names and counts written out."""


def curves(title: str, metrics: Sequence[Mapping[str, Any]]) -> bytes:
    """Training loss and error over the epochs, as SVG. Rows have `epoch`, `loss` and `accuracy`."""
    epochs = [row["epoch"] for row in metrics]
    losses = [row["loss"] for row in metrics]
    errors = [100 * (1 - row["accuracy"]) for row in metrics]
    figure = Figure(figsize=(7, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.set_title(title, loc="left", parse_math=False)
    upper.plot(epochs, losses, color=BLUE, marker="." if len(epochs) == 1 else None)
    lower.plot(epochs, errors, color=ORANGE, marker="." if len(epochs) == 1 else None)
    upper.set_ylabel("training loss")
    lower.set_ylabel("training error, %")
    lower.set_xlabel("epoch (error and loss on the pictures as they were augmented)")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    lower.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    for axes, values in ((upper, losses), (lower, errors)):
        # Logarithms show the last epochs as well as the first, but nothing at 0.
        axes.set_yscale("log" if min(values) > 0 else "linear")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def confusion(title: str, classes: Sequence[str], counts: npt.NDArray[np.int64]) -> bytes:
    """Counts (classes, classes), a row for each true class, as SVG; shaded by the part of the row."""
    num = len(classes)
    longest = max(map(len, classes)) if num <= LABELLED else 4
    side = min(max(4.0, 2 + 0.08 * longest + 0.42 * num), 14)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if num <= LABELLED:
        for row, column in np.argwhere(counts > 0):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
        upright = max(map(len, classes)) <= 2
        axes.set_xticks(range(num), classes, rotation=0 if upright else 90, parse_math=False)
        axes.set_yticks(range(num), classes, parse_math=False)
    axes.set_title(title, loc="left", fontsize=10, parse_math=False).set_in_layout(False)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    return _svg(figure)


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # The same run gives the same file: no date, and names of parts from a fixed salt.
    with mpl.rc_context({"svg.hashsalt": "convatlas", "svg.fonttype": "none"}), warnings.catch_warnings():
        # The file carries text, not shapes: its reader has the letters that matplotlib's font may lack.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
