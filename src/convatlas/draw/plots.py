"""Training curves, the confusion matrix and the reliability diagram, as SVG."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

# Blue and orange that color-blind people tell apart (Okabe and Ito 2008).
BLUE, ORANGE = "#0072B2", "#D55E00"

LABELED = 30
"""Classes up to which a confusion matrix has its names and counts written out."""

SHORT, LONG = 5, 1000
"""How many times the lowest value the highest is, from which an axis is logarithmic, and from which tens are enough."""

PNG_DPI = 160

UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML file can hold (XML 1.0, section 2.2): control characters, and bytes of a file's name that are no text."""


def printable(text: str) -> str:
    """The text with a replacement character for each that a page or a plot cannot show."""
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def curves(title: str, metrics: Sequence[Mapping[str, Any]]) -> bytes:
    """Loss and error over the epochs, as SVG.

    Args:
        metrics: a row for each epoch, with `epoch`, `loss` and `accuracy` on the training images, and with
            `val_loss` and `val_accuracy` where some were held out.
    """
    epochs = [row["epoch"] for row in metrics]
    shown = {"training": ("", "-")}
    if all("val_loss" in row for row in metrics):
        shown["held out"] = ("val_", "--")
    losses = {label: [row[f"{prefix}loss"] for row in metrics] for label, (prefix, _) in shown.items()}
    errors = {label: [100 * (1 - row[f"{prefix}accuracy"]) for row in metrics] for label, (prefix, _) in shown.items()}
    figure = Figure(figsize=(7, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.set_title(printable(title), loc="left", parse_math=False)
    upper.set_ylabel("training loss" if len(shown) == 1 else "loss")
    lower.set_ylabel("training error, %" if len(shown) == 1 else "error, %")
    lower.set_xlabel("epoch (error and loss on the training images as they were augmented)")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    lower.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    for axes, lines, color in ((upper, losses, BLUE), (lower, errors, ORANGE)):
        for label, values in lines.items():
            marker = "." if len(epochs) == 1 else None
            axes.plot(epochs, values, color=color, linestyle=shown[label][1], marker=marker, label=label)
        lowest, highest = min(map(min, lines.values())), max(map(max, lines.values()))
        # Logarithms show the last epochs as well as the first, but nothing at 0, and no round numbers in a short range.
        if 0 < SHORT * lowest < highest:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest < LONG * lowest else (1,)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if len(lines) > 1:
            axes.legend(frameon=False)
    return rendered(figure)


def confusion(title: str, classes: Sequence[str], counts: npt.NDArray[np.int64]) -> bytes:
    """Counts (classes, classes), a row for each true class, as SVG; shaded by the part of the row."""
    num = len(classes)
    classes = [printable(name) for name in classes]
    # Without names and counts in it, a larger one has no more to tell.
    side = min(max(4.0, 2 + 0.08 * max(map(len, classes)) + 0.42 * num), 14) if num <= LABELED else 8
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if num <= LABELED:
        for row, column in np.argwhere(counts > 0):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=color, fontsize=8)
        upright = max(map(len, classes)) <= 2
        axes.set_xticks(range(num), classes, rotation=0 if upright else 90, parse_math=False)
        axes.set_yticks(range(num), classes, parse_math=False)
    axes.set_title(printable(title), loc="left", fontsize=10, parse_math=False).set_in_layout(False)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    return rendered(figure)


def reliability(
    counts: npt.NDArray[np.int64], confidence: npt.NDArray[np.float64], accuracy: npt.NDArray[np.float64]
) -> bytes:
    """A reliability diagram (Guo et al. 2017, figure 1) above the share of images in each bin, as SVG.

    Args:
        counts: images in each bin (bins,); the bins part 0 to 1 evenly.
        confidence: the mean probability of the answers in each (bins,), fractions.
        accuracy: the part of them that is right (bins,), fractions.
    """
    num = len(counts)
    filled = counts > 0
    middles = (np.arange(num) + 0.5) / num
    figure = Figure(figsize=(5, 5.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.bar(middles[filled], accuracy[filled], width=0.9 / num, color=BLUE, label="part that is right")
    upper.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--", label="as often as it says")
    # Between what it says and what is so.
    upper.vlines(confidence[filled], confidence[filled], accuracy[filled], color=ORANGE, linewidth=2, label="gap")
    upper.plot(confidence[filled], confidence[filled], ".", color=ORANGE)
    upper.set_ylabel("accuracy")
    upper.set_ylim(0, 1)
    figure.legend(frameon=False, loc="outside upper center", ncols=3)
    lower.bar(middles, 100 * counts / max(counts.sum(), 1), width=0.9 / num, color="gray")
    lower.set_ylabel("images, %")
    lower.set_xlabel("probability that the network gave its answer")
    lower.set_xlim(0, 1)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return rendered(figure)


def rates(title: str, rates: Sequence[float], losses: Sequence[float], suggestion: float) -> bytes:
    """The loss of a learning-rate finder against its rates, and the rate that it suggests, as SVG."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(printable(title), loc="left", parse_math=False)
    axes.plot(rates, losses, color=BLUE)
    axes.axvline(suggestion, color=ORANGE, linestyle="--")
    axes.annotate(
        f"{suggestion:.1e}", (suggestion, max(losses)), (4, -4), textcoords="offset points", color=ORANGE, va="top"
    )
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss, smoothed")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return rendered(figure)


def rendered(figure: Figure, form: str = "svg") -> bytes:
    """The file's content, the same for the same figure.

    Args:
        form: "svg", or "png" at a size for slides.
    """
    buffer = io.BytesIO()
    # No date, and names of parts from a fixed salt.
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "convatlas", "svg.fonttype": "none"}), warnings.catch_warnings():
        # The file carries text, not shapes: its reader has the letters that matplotlib's font may lack.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, format=form, metadata=metadata, dpi=PNG_DPI)
    return buffer.getvalue()
