"""The networks of the atlas by what they compute and how accurate their papers say they are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from convatlas.draw.charts import COLORS
from convatlas.draw.drawing import Rect, text_width
from convatlas.draw.pages import render_page
from convatlas.errors import UserError
from convatlas.formatting import round_count
from convatlas.measure import VariantCost
from convatlas.spec import Claim, Variant

WIDTH, HEIGHT = 1280, 720
PLOT = Rect(84, 92, 1168, 488)
"""The room of the bubbles."""
MAX_RADIUS = 38
"""Pixels of the bubble with the most parameters."""
SIZE = 12
LEGEND_TOP = 634
NOT_OWN = re.compile(r"\b(?:two|five|six|seven) nets\b|\bafter\b|\btest\b|\bless by\b")
"""Of several networks, of a compressed or another one, on a test set of its own."""
TOP_1 = re.compile(r"top-1 (error|accuracy) on (?:ImageNet|ILSVRC-2012)(?: validation)?(?:, (.*))?")


@dataclass(frozen=True)
class PublishedAccuracy:
    """A variant's top-1 accuracy on ImageNet, as its paper prints it."""

    percent: float
    setting: str
    """How it was tested, as "10 crops"; empty: the paper does not say."""


@dataclass(frozen=True)
class Bubble:
    """A network on the chart, in pixels."""

    name: str
    x: float
    y: float
    radius: float
    color: str
    tip: str
    label: Rect
    """Where its name stands."""

    @property
    def room(self) -> Rect:
        return Rect(self.x - self.radius, self.y - self.radius, 2 * self.radius, 2 * self.radius)

    @property
    def far(self) -> bool:
        """Whether a line must lead from it to its name."""
        return distance(self.label, self.x, self.y) > self.radius + 8


def published_accuracy(variant: Variant) -> PublishedAccuracy | None:
    """The first top-1 accuracy on ImageNet that a paper prints of a variant by itself; None if it prints none."""
    for claim in variant.claims:
        match = TOP_1.fullmatch(claim.figure)
        if match and own_figure(claim):
            value = float(claim.value)
            percent = round(100 - value, 2) if match[1] == "error" else value
            return PublishedAccuracy(percent, match[2] or "")
    return None


def own_figure(claim: Claim) -> bool:
    return claim.count is None and claim.unit == "%" and not NOT_OWN.search(claim.figure)


def accuracy_chart(costs: Sequence[VariantCost]) -> bytes:
    """PublishedAccuracy top-1 accuracy on ImageNet against MACs, as SVG that reads on a light and on a dark page.

    A bubble's area is the parameters, its color the paper. MACs and parameters are counted in the built networks.

    Args:
        costs: as from `measure.variant_costs`. Those without a published figure are left out.

    Raises:
        UserError: none of them has one.
    """
    known = [(cost, found) for cost in costs if (found := published_accuracy(cost.variant))]
    if not known:
        raise UserError("no paper of these networks prints a top-1 accuracy on ImageNet; there is nothing to draw")
    macs = [cost.macs for cost, _ in known]
    percents = [found.percent for _, found in known]
    low, high = 4 * math.floor((min(percents) - 1) / 4), 4 * math.ceil((max(percents) + 1) / 4)
    left, right = math.log10(min(macs)) - 0.12, math.log10(max(macs)) + 0.3
    most = max(cost.params for cost, _ in known)
    papers = list(dict.fromkeys((cost.variant.paper.year, cost.family.name) for cost, _ in sorted(known, key=year)))

    def x_of(value: float) -> float:
        return PLOT.x + PLOT.width * (math.log10(value) - left) / (right - left)

    def y_of(percent: float) -> float:
        return PLOT.y + PLOT.height * (high - percent) / (high - low)

    bubbles = labeled(
        Bubble(
            cost.variant.name,
            x_of(cost.macs),
            y_of(found.percent),
            MAX_RADIUS * math.sqrt(cost.params / most),
            f"c{papers.index((cost.variant.paper.year, cost.family.name)) % len(COLORS)}",
            f"{cost.variant.name}, {cost.variant.paper.year}: {found.percent:g} % ({found.setting or 'one figure'}), "
            f"{round_count(cost.macs)} MACs, {round_count(cost.params)} parameters",
            Rect(0, 0, text_width(cost.variant.name, SIZE), SIZE),
        )
        for cost, found in known
    )
    settings: dict[tuple[int, str], list[str]] = {paper: [] for paper in papers}
    for cost, found in known:
        tested = settings[(cost.variant.paper.year, cost.family.name)]
        tested += [found.setting] if found.setting and found.setting not in tested else []
    legend = [f"{at} {name}" + (f": {'; '.join(tested)}" if tested else "") for (at, name), tested in settings.items()]
    return render_page(
        "convatlas.draw",
        "accuracy.svg.jinja",
        {
            "width": WIDTH,
            "height": HEIGHT,
            "plot": PLOT,
            "colors": COLORS,
            "bubbles": bubbles,
            "x_ticks": [(x_of(value), tick(value)) for value in round_values(10**left, 10**right)],
            "y_ticks": [(y_of(percent), f"{percent} %") for percent in range(low, high + 1, 4)],
            "legend": legend_places(legend),
            "left_out": left_out(costs),
            "text": "; ".join(bubble.tip for bubble in bubbles),
        },
    )


def tick(value: float) -> str:
    """500 M, 1 G"""
    digits, _, power = round_count(round(value)).partition(" ")
    return f"{float(digits):g} {power}".strip()


def year(pair: tuple[VariantCost, PublishedAccuracy]) -> int:
    return pair[0].variant.paper.year


def round_values(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two numbers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [digit * 10.0**power for power in powers for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]


def left_out(costs: Iterable[VariantCost]) -> str:
    """What has a published error on ImageNet, but none that can be drawn."""
    names = [
        cost.variant.name
        for cost in costs
        if published_accuracy(cost.variant) is None
        and any("top-5" in claim.figure and own_figure(claim) for claim in cost.variant.claims)
    ]
    return f"Of {', '.join(names)} the paper prints a top-5 error only." if names else ""


def legend_places(entries: Sequence[str]) -> list[tuple[float, float, str, str]]:
    """Where each entry of the legend stands, and its color."""
    places, x, y = [], float(PLOT.x), float(LEGEND_TOP)
    for i, entry in enumerate(entries):
        width = 18 + text_width(entry, SIZE) + 20
        if x > PLOT.x and x + width > PLOT.x + PLOT.width:
            x, y = PLOT.x, y + 20
        places.append((x, y, f"c{i % len(COLORS)}", entry))
        x += width
    return places


def labeled(bubbles: Iterable[Bubble]) -> list[Bubble]:
    """Bubbles with their names beside them, so that no name lies on another, nor on a bubble if there is room.

    The largest are drawn first, so that smaller ones lie on them.
    """
    drawn = sorted(bubbles, key=lambda bubble: -bubble.radius)
    placed: list[Bubble] = []
    for bubble in reversed(drawn):
        free = [
            place
            for place in label_places(bubble)
            if inside(place) and not any(place.touches(other.label) for other in placed)
        ]
        clear = (place for place in free if not any(place.touches(other.room) for other in drawn))
        placed.append(replace(bubble, label=next(clear, free[0])))
    return placed[::-1]


def label_places(bubble: Bubble) -> Iterator[Rect]:
    """Where the name of a bubble may stand, the best place first."""
    _, _, width, height = bubble.label
    for gap in (5, 14, 26, 40, 56, 74, 94, 116):
        reach = bubble.radius + gap
        for dx, dy in ((1, 0), (-1, 0), (0.7, -0.7), (0.7, 0.7), (-0.7, -0.7), (-0.7, 0.7), (0, -1), (0, 1)):
            x = bubble.x + reach * dx if dx > 0 else bubble.x + reach * dx - (width if dx < 0 else width / 2)
            yield Rect(x, bubble.y + reach * dy - height / 2, width, height)


def inside(rect: Rect) -> bool:
    horizontally = PLOT.x <= rect.x and rect.x + rect.width <= PLOT.x + PLOT.width
    return horizontally and PLOT.y <= rect.y and rect.y + rect.height <= PLOT.y + PLOT.height


def distance(rect: Rect, x: float, y: float) -> float:
    """From a point to the nearest point of a rectangle."""
    return math.hypot(max(rect.x - x, 0, x - rect.x - rect.width), max(rect.y - y, 0, y - rect.y - rect.height))
