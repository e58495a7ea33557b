"""The first page's drawing is to scale."""

from __future__ import annotations

import math

import pytest

from convatlas.draw.drawing import Rect
from convatlas.museum.exhibits import EXHIBITS
from convatlas.museum.rooms import NetworkRoom
from convatlas.museum.timeline import HEIGHT, LARGEST, SILHOUETTE, WIDTH, Timeline, silhouettes


@pytest.fixture(scope="module")
def rooms() -> list[NetworkRoom]:
    return [NetworkRoom.of(one) for one in EXHIBITS]


def test_areas_are_parameters_and_heights_are_powers_of_ten(rooms: list[NetworkRoom]) -> None:
    timeline = Timeline.of(rooms)
    of = {one.name: one for one in timeline.points}
    assert of["VGG-16"].radius == LARGEST
    shares = (of["AlexNet"].radius / of["VGG-16"].radius) ** 2
    assert shares == pytest.approx(60_965_224 / 138_357_544)
    (_, low), (_, high) = timeline.lines[:2]
    decades = (of["LeNet-5"].y - of["VGG-16"].y) / (low - high)
    assert decades == pytest.approx(math.log10(15_470_264_320 / 326_520))


def test_all_is_inside_and_no_name_lies_on_a_circle(rooms: list[NetworkRoom]) -> None:
    points = Timeline.of(rooms).points
    assert [one.name for one in points[:2]] == ["Zip code network", "LeNet-5"]
    for one in points:
        assert one.x - one.radius > 0
        assert one.x + one.radius < WIDTH
        assert 0 < one.name_y(points) < HEIGHT
        width = 8.5 * len(one.name)
        assert one.x - width / 2 > 60, "over the ticks"
        name = Rect(one.x - width / 2, one.name_y(points) - 11, width, 12)
        assert not any(name.touches(other.circle) for other in points if other is not one), one.name


def test_silhouettes_have_one_scale(rooms: list[NetworkRoom]) -> None:
    drawn = silhouettes([room.summary for room in rooms])
    assert [len(bars) for bars in drawn] == [sum(row.macs > 0 for row in room.summary.layers) for room in rooms]
    right = [bars[-1][0].x + bars[-1][0].width for bars in drawn]
    assert max(right) == pytest.approx(SILHOUETTE[0], abs=1)
    assert max(place.height for bars in drawn for place, _ in bars) == pytest.approx(SILHOUETTE[1], abs=0.2)
