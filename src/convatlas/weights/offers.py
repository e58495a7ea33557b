"""Which published weights there are for a network, and which there are in place of those that there are not."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from convatlas.spec import Scale
from convatlas.weights.libraries import LIBRARIES
from convatlas.weights.library import Library, Network, unlike
from convatlas.weights.published import Published
from convatlas.weights.taking import network_of, published_for


def defaults(name: str, scale: Scale | None) -> list[Published]:
    """The default weights of each library for a network.

    Args:
        name: of one of our networks.
        scale: its width and depth, which the weights must have; None: any will do.
    """
    rows = [row for row in published_for(name) if row.is_default]
    return [row for row in rows if scale is None or not unlike([network_of(row)], scale)]


def in_place_of(
    name: str, scale: Scale | None = None, libraries: Collection[Library] = LIBRARIES
) -> list[tuple[Library, Network]]:
    """The networks that libraries have in place of one of ours, which a paper prints; the first of each variant.

    Args:
        scale: the width and depth that they must have; None: any will do.
    """
    found: dict[str, tuple[Library, Network]] = {}
    for library in libraries:
        for network in library.networks:
            if network.departs_from == name and (scale is None or not unlike([network], scale)):
                found.setdefault(network.variant, (library, network))
    return list(found.values())


def none_published(name: str, others: Iterable[tuple[Library, Network]]) -> str:
    """A line on a network of which nobody publishes weights.

    Args:
        others: what there is in its place.
    """
    listed = ", ".join(f"{network.variant} ({network.why})" for _, network in others)
    return f"nobody publishes weights of {name}{f'; there are some of {listed}' if listed else ''}"
