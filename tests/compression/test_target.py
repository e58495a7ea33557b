"""Targets: what people write, and what networks cost."""

from __future__ import annotations

import pytest

from convatlas import atlas
from convatlas.compression.target import Bytes, Latency, Macs, parsed
from convatlas.errors import UserError


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("2 MB", Bytes(2e6)),
        ("1.5MiB", Bytes(1.5 * 2**20)),
        ("300 kb", Bytes(3e5)),
        ("30 M macs", Macs(30e6)),
        ("30M MACs", Macs(30e6)),
        ("1,000,000 macs", Macs(1e6)),
        ("0.5 G macs", Macs(5e8)),
        ("5 ms", Latency(5e-3)),
        ("0.1 s", Latency(0.1)),
    ],
)
def test_targets_are_read_as_people_write_them(text: str, target: Bytes | Macs | Latency) -> None:
    assert parsed(text) == target


@pytest.mark.parametrize(
    "text", ["", "5", "MB", "-2 MB", "0 ms", "5 parsecs", "1.2.3 MB", "5 ms macs", "M macs", "1,5 MB", "0,5 MB"]
)
def test_what_is_no_target_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match="is no target; write one like '2 MB'"):
        parsed(text)


def test_costs_are_measured_of_the_network() -> None:
    lenet = atlas.find("lenet5-modern")
    assert Macs(1).of(lenet, lenet.spec) == 416_520
    seconds = Latency(1).of(lenet, lenet.spec)
    assert 0 < seconds < 1
    assert (str(Macs(5e5)), str(Latency(0.0123)), str(Bytes(2**21))) == ("500,000 MACs", "12.3 ms", "2.0 MiB")
