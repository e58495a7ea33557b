"""PublishedAccuracy accuracy against MACs: comparable figures, and names that can be read."""

import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import combinations

import pytest

import convatlas as ca
from convatlas import measure
from convatlas.draw.accuracy import MAX_RADIUS, PLOT, Bubble, PublishedAccuracy, inside, labeled, published_accuracy
from convatlas.draw.drawing import Rect
from convatlas.measure import VariantCost
from convatlas.spec import Claim

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def costs() -> tuple[VariantCost, ...]:
    names = ("alexnet", "vgg16", "googlenet", "resnet34", "resnet34-a", "squeezenet", "mobilenet", "efficientnet-b0")
    rows = []
    for family in ca.families():
        rows += measure.variant_costs([replace(family, variants=tuple(v for v in family.variants if v.name in names))])
    return tuple(rows)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alexnet", PublishedAccuracy(59.3, "one net")),
        ("vgg16", PublishedAccuracy(73.0, "single scale 256")),
        ("resnet34", PublishedAccuracy(75.48, "10 crops")),
        ("squeezenet", PublishedAccuracy(57.5, "")),
        ("efficientnet-b7", PublishedAccuracy(84.3, "late version of the paper")),
        ("googlenet", None),
        ("lenet5", None),
        ("resnet20-cifar", None),
    ],
)
def test_the_figure_is_of_one_network_as_the_paper_prints_it(name: str, expected: PublishedAccuracy | None) -> None:
    assert published_accuracy(ca.find(name)) == expected


@pytest.mark.parametrize(
    "figure",
    [
        "top-1 error on ILSVRC-2012 validation, five nets",
        "top-1 error on ILSVRC-2010 test",
        "top-1 accuracy on ImageNet, after Deep Compression to 8 bits",
        "top-5 error on ImageNet validation, 10 crops",
        "top-1 error less by overlapping pooling",
    ],
)
def test_other_figures_are_not_taken_for_it(figure: str) -> None:
    assert published_accuracy(replace(ca.find("alexnet"), claims=(Claim(figure, "10 %", "Table 1"),))) is None


def test_every_network_with_a_figure_has_a_bubble(costs: tuple[VariantCost, ...]) -> None:
    root = ET.fromstring(ca.draw.accuracy_chart(costs))
    bubbles = {name: one for one in root.iter(f"{SVG}g") if (name := one.get("data-network"))}
    assert set(bubbles) == {cost.variant.name for cost in costs} - {"googlenet"}
    most = max(cost.params for cost in costs)
    places = {}
    for cost in costs:
        if cost.variant.name in bubbles:
            circle = bubbles[cost.variant.name].find(f"{SVG}circle")
            assert circle is not None
            radius = float(circle.get("r", ""))
            assert radius == pytest.approx(MAX_RADIUS * math.sqrt(cost.params / most), abs=0.06)
            places[cost.variant.name] = float(circle.get("cx", "")), float(circle.get("cy", ""))
    assert places["mobilenet"][0] < places["alexnet"][0] < places["resnet34"][0] < places["vgg16"][0]
    assert places["efficientnet-b0"][1] < places["resnet34"][1] < places["vgg16"][1] < places["alexnet"][1]
    texts = [text.text or "" for text in root.iter(f"{SVG}text")]
    assert "2015 ResNet: 10 crops" in texts
    assert texts[-1].endswith("Of googlenet the paper prints a top-5 error only.")
    words = root.findtext(f"{SVG}desc") or ""
    assert "vgg16, 2014: 73 % (single scale 256), 15.5 G MACs, 138 M parameters" in words


def test_names_lie_on_no_other_name() -> None:
    crowd = [
        Bubble(f"network-{i}", 640 + 9 * math.cos(i), 330 + 9 * math.sin(i), 4 + 2 * i, "c0", "", Rect(0, 0, 70, 12))
        for i in range(14)
    ]
    placed = labeled(crowd)
    assert {bubble.name for bubble in placed} == {bubble.name for bubble in crowd}
    assert not any(one.label.touches(other.label) for one, other in combinations(placed, 2))
    assert all(inside(bubble.label) for bubble in placed)


@pytest.mark.slow
def test_names_of_the_whole_atlas_lie_on_no_other() -> None:
    root = ET.fromstring(ca.draw.accuracy_chart(measure.variant_costs(released=False)))
    names = {one.get("data-network") for one in root.iter(f"{SVG}g")}
    labels = [
        Rect(float(text.get("x", "")), float(text.get("y", "")) - 10, 6 * len(text.text or ""), 12)
        for text in root.iter(f"{SVG}text")
        if text.text in names
    ]
    assert len(labels) == len(names) >= 30
    assert not any(one.touches(other) for one, other in combinations(labels, 2))
    assert all(PLOT.y <= label.y for label in labels)


def test_networks_without_a_figure_have_no_chart() -> None:
    family = next(family for family in ca.families() if family.variants[0].spec.in_channels == 1)
    with pytest.raises(ca.UserError, match="there is nothing to draw"):
        ca.draw.accuracy_chart(measure.variant_costs([family]))
