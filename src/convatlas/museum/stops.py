"""The figures of a network at every stop of its sliders, as data that a page loads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product

from convatlas.errors import UserError
from convatlas.measure import NetworkSummary, summarize
from convatlas.museum.exhibits import Exhibit
from convatlas.spec import Layer, Spec


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A network at one width, depth and resolution."""

    width: float
    depth: float
    resolution: int
    summary: NetworkSummary | None
    why: str = ""
    """Why there is no such network."""


def stops_of(exhibit: Exhibit) -> Iterator[Stop]:
    """Every stop, the resolution running fastest and the width slowest."""
    values = exhibit.stops
    for width, depth, resolution in product(values.width, values.depth, values.resolution):
        yield stop(exhibit, width, depth, resolution)


def stop(exhibit: Exhibit, width: float, depth: float, resolution: int) -> Stop:
    """The network at that scale, or why it cannot be built."""
    variant = exhibit.variant
    try:
        summary = summarize(variant, scaled(variant.spec, width, depth, resolution))
    except UserError as error:
        return Stop(width=width, depth=depth, resolution=resolution, summary=None, why=str(error))
    return Stop(width=width, depth=depth, resolution=resolution, summary=summary)


def scaled(spec: Spec, width: float, depth: float, resolution: int) -> Spec:
    """The spec at that scale; at the paper's own it is the paper's, whatever scaling would round."""
    own = (1, 1, spec.resolution)
    return spec if (width, depth, resolution) == own else spec.scaled(width, depth, resolution)


def stop_data(exhibit: Exhibit) -> dict[str, object]:
    """All stops for a page. Sequences of layers, of which many stops have the same, stand once.

    A stop is a text, why there is no such network, or a list: parameters, MACs, bytes of activations at once, depth,
    and which of `channels`, of `sides` and of `connected` are its layers'.
    """
    sequences: dict[str, dict[str, int]] = {name: {} for name in ("channels", "sides", "connected")}

    def place(name: str, text: str) -> int:
        return sequences[name].setdefault(text, len(sequences[name]))

    figures: list[str | list[int]] = []
    for one in stops_of(exhibit):
        if one.summary is None:
            figures.append(one.why)
            continue
        footprint, rows = one.summary.footprint, weighted(one.summary)
        figures.append(
            [
                footprint.params,
                footprint.macs,
                footprint.peak_activation_bytes,
                one.summary.layers.depth,
                place("channels", run_lengths([row.output_shape[0] for row in rows])),
                place("sides", run_lengths([row.output_shape[1] if len(row.output_shape) > 1 else 1 for row in rows])),
                place("connected", run_lengths([int(len(row.output_shape) == 1) for row in rows])),
            ]
        )
    values = exhibit.stops
    return {
        "width": values.width,
        "depth": values.depth,
        "resolution": values.resolution,
        "own": [values.width.index(1), values.depth.index(1), values.resolution.index(exhibit.variant.spec.resolution)],
        "figures": figures,
        **{name: list(texts) for name, texts in sequences.items()},
    }


def all_stop_data(exhibits: Sequence[Exhibit]) -> list[dict[str, object]]:
    """The stops of several networks."""
    return [stop_data(exhibit) for exhibit in exhibits]


def weighted(summary: NetworkSummary) -> list[Layer]:
    """The layers that multiply inputs by weights, in order."""
    return [row for row in summary.layers if row.macs]


def run_lengths(values: list[int]) -> str:
    """ "64*2 128" """
    runs = ((value, len(list(same))) for value, same in groupby(values))
    return " ".join(f"{value}*{num}" if num > 1 else str(value) for value, num in runs)


def script(name: str, values: object) -> bytes:
    """Data as a classic script, which a page may load from a folder too, where it may not fetch files."""
    return f"var {name} = {json.dumps(values, separators=(',', ':'), allow_nan=False)};\n".encode()
