"""The page of networks."""

from __future__ import annotations

from pathlib import Path

import convatlas as ca

PAGE = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()


def test_the_networks_are_those_of_the_atlas() -> None:
    rows = [
        f"| {family.name} | {family.paper.year} | {', '.join(f'`{variant.name}`' for variant in family.variants)} |"
        for family in ca.families()
    ]
    # The first table, behind its two head lines.
    _, _, *table = PAGE[PAGE.index("| family") :].split("\n\n")[0].splitlines()
    assert table == rows
