"""Networks side by side as one picture: year, depth, parameters, MACs and published error."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from convatlas.draw.pages import render_page
from convatlas.formatting import round_count, shorten
from convatlas.measure import NetworkSummary
from convatlas.spec import Variant

TOP, ROW_HEIGHT, BOTTOM = 50, 64, 74
"""Pixels of the headings, of each row and of the notes."""
LEFT = {"name": 24, "depth": 186, "params": 262, "macs": 404, "error": 558}
"""Where the columns begin, in pixels."""
WIDTH = 736
MAX_RADIUS = 26
"""Pixels of the largest circle of a column."""
MAX_BAR = 60
"""Pixels of the longest bar."""
NAME_COLUMNS, SETTING_COLUMNS = 15, 20
"""Letters that fit."""


def comparison(summaries: Sequence[NetworkSummary]) -> bytes:
    """A row for each network, as SVG that reads on a light and on a dark page.

    Depth, parameters and MACs are counted in the built networks. The error is the first that the variant's paper
    prints, or 100 % minus the accuracy where it prints accuracy.

    Args:
        summaries: one network or more, as from `measure.summarize`.
    """
    depths = [summary.layers.depth for summary in summaries]
    params = [summary.footprint.params for summary in summaries]
    macs = [summary.footprint.macs for summary in summaries]
    rows = []
    for i, summary in enumerate(summaries):
        error, setting = published_error(summary.variant)
        rows.append(
            {
                "top": TOP + i * ROW_HEIGHT,
                "name": shorten(summary.variant.name, NAME_COLUMNS),
                "year": str(summary.variant.paper.year),
                "depth": str(depths[i]),
                "depth_width": pixels(MAX_BAR * depths[i] / max(depths)),
                "params": round_count(params[i]),
                "params_radius": pixels(MAX_RADIUS * math.sqrt(params[i] / max(params))),
                "macs": round_count(macs[i]),
                "macs_radius": pixels(MAX_RADIUS * math.sqrt(macs[i] / max(macs))),
                "error": error,
                "setting": shorten(setting, SETTING_COLUMNS),
            }
        )
    return render_page(
        "convatlas.draw",
        "comparison.svg.jinja",
        {
            "width": WIDTH,
            "height": TOP + ROW_HEIGHT * len(rows) + BOTTOM,
            "left": LEFT,
            "rows": rows,
            "text": "; ".join(
                f"{row['name']}, {row['year']}: depth {row['depth']}, {row['params']} parameters, {row['macs']} MACs"
                + (f", error {row['error']} ({row['setting']})" if row["error"] else "")
                for row in rows
            ),
        },
    )


def published_error(variant: Variant) -> tuple[str, str]:
    """The first error that the paper prints and what it is of, as ("42.5 %", "top-1, ImageNet"); else empty texts."""
    result = next((claim for claim in variant.claims if claim.count is None and claim.unit == "%"), None)
    if result is None:
        return "", ""
    error = f"{100 - result.value} %" if "accuracy" in result.figure else result.printed
    top, _, setting = result.figure.partition(" on ")
    data = re.sub(" (test|validation)$", "", setting.partition(",")[0])
    return error, ", ".join([*re.findall(r"top-\d", top), data])


def pixels(length: float) -> str:
    return f"{length:.2f}"
