"""Targets: what people write, and what networks cost."""

from __future__ import annotations

import pytest

from convatlas import atlas
from convatlas.compression.target import LatencyTarget, MacsTarget, SizeTarget, parse_target
from convatlas.errors import UserError


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("2 MB", SizeTarget(2e6)),
        ("1.5MiB", SizeTarget(1.5 * 2**20)),
        ("300 kb", SizeTarget(3e5)),
        ("30 M macs", MacsTarget(30e6)),
        ("30M MACs", MacsTarget(30e6)),
        ("1,000,000 macs", MacsTarget(1e6)),
        ("0.5 G macs", MacsTarget(5e8)),
        ("5 ms", LatencyTarget(5e-3)),
        ("0.1 s", LatencyTarget(0.1)),
    ],
)
def test_targets_are_read_as_people_write_them(text: str, target: SizeTarget | MacsTarget | LatencyTarget) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text", ["", "5", "MB", "-2 MB", "0 ms", "5 parsecs", "1.2.3 MB", "5 ms macs", "M macs", "1,5 MB", "0,5 MB"]
)
def test_what_is_no_target_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match="is not a target; write one like '2 MB'"):
        parse_target(text)


def test_costs_are_measured_of_the_network() -> None:
    lenet = atlas.find("lenet5-modern")
    assert MacsTarget(1).cost(lenet, lenet.spec) == 416_520
    seconds = LatencyTarget(1).cost(lenet, lenet.spec)
    assert 0 < seconds < 1
    assert (str(MacsTarget(5e5)), str(LatencyTarget(0.0123)), str(SizeTarget(2**21))) == (
        "500,000 MACs",
        "12.3 ms",
        "2.0 MiB",
    )
