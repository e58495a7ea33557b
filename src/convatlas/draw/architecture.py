"""Drawings of networks, from the modules and operations that run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn

from convatlas.draw.comparison import published_error
from convatlas.draw.drawing import Drawing
from convatlas.draw.levels import LEVELS, Level, describe_items, describe_shape, items_of
from convatlas.draw.page import DrawnNetwork, page
from convatlas.draw.pdf import as_pdf
from convatlas.draw.svg import as_svg
from convatlas.draw.tikz import as_tikz
from convatlas.errors import UserError
from convatlas.formatting import round_count
from convatlas.measure import NetworkSummary, Structure, layers_in, structure_of
from convatlas.measure.table import build_without_memory

DrawingFormat = Literal["svg", "pdf", "tikz"]

WRITERS: dict[DrawingFormat, Callable[[Drawing], bytes]] = {"svg": as_svg, "pdf": as_pdf, "tikz": as_tikz}


def architecture(
    network: nn.Module,
    *,
    level: Level = "overview",
    title: str | None = None,
    file_format: DrawingFormat = "svg",
) -> bytes:
    """A drawing of a network: its layers, branches and shortcuts, with the shapes between them.

    The network is drawn as it is, whether scaled, pruned or cut: from the modules that it has and the operations that
    run. It is neither run nor changed, and may be on any device.

    Args:
        network: with a `spec`, which says the size of its images.
        level: "overview", a slide with a block for each run of units; "stages", the branches and layers of each unit;
            "layers", every layer with its name and its output.
        title: above the drawing; None: the name of the network's class.
        file_format: "svg", which reads on light and dark pages; "pdf"; "tikz", a tikzpicture for LaTeX.

    Returns:
        The file's content.

    Raises:
        UserError: there is no such level or format, or the layers lie neither in series nor side by side.
    """
    structure = structure_of(network)
    own = title if title is not None else structure.kind
    return written(page([drawable(structure, checked(level), own, figures(structure))], level, own), file_format)


def architectures(
    summaries: Sequence[NetworkSummary], *, level: Level = "overview", file_format: DrawingFormat = "svg"
) -> bytes:
    """A drawing of networks of the atlas at one scale, one below the other, with their figures.

    Args:
        summaries: one network or more, as from `measure.summarize`.
        level: as for `architecture`.
        file_format: as for `architecture`.

    Returns:
        The file's content.

    Raises:
        UserError: there is no such level or format.
    """
    return written(laid_out([drawn_network(one, level) for one in summaries], level), file_format)


def drawn_network(summary: NetworkSummary, level: Level) -> DrawnNetwork:
    """What `architectures` draws of a network, to be laid out alone or with others."""
    variant = summary.variant
    structure = structure_of(build_without_memory(variant.network, summary.spec))
    error, setting = published_error(variant) if summary.spec == variant.spec else ("", "")
    scaled = [] if summary.spec == variant.spec else [f"scaled, {summary.spec.resolution} px"]
    published = [f"published error {error} ({setting})"] if error else []
    facts = [
        str(variant.paper.year),
        *scaled,
        *figures(structure, summary.footprint.training_only_params),
        *published,
    ]
    return drawable(structure, checked(level), variant.name, facts)


def laid_out(networks: Sequence[DrawnNetwork], level: Level) -> Drawing:
    """Networks of the atlas at one scale, one below the other."""
    return page(networks, level, ", ".join(network.title for network in networks))


def checked(level: Level) -> Level:
    if level not in LEVELS:
        raise UserError(f"there is no `level` {level}; choose {', '.join(LEVELS[:-1])} or {LEVELS[-1]}")
    return level


def figures(structure: Structure, training_only_params: int = 0) -> list[str]:
    """A network's figures in words; layers that only training uses are not drawn."""
    more = f" (and {round_count(training_only_params)} in training)" if training_only_params else ""
    return [
        f"depth {structure.depth}",
        f"{round_count(structure.params)} parameters{more}",
        f"{round_count(structure.macs)} MACs",
    ]


def drawable(structure: Structure, level: Level, title: str, facts: Sequence[str]) -> DrawnNetwork:
    sides = [layer.output_shape[-1] for layer in layers_in(structure.parts) if len(layer.output_shape) > 1]
    text = describe_items(items_of(structure.parts, "overview"))
    return DrawnNetwork(
        title,
        tuple(facts),
        items_of(structure.parts, level),
        structure.input_shape,
        max(structure.input_shape[-1], *sides, 1),
        f"{title}: {', '.join(facts)}. An image of {describe_shape(structure.input_shape)}; {text}.",
    )


def written(drawing: Drawing, file_format: DrawingFormat) -> bytes:
    """The drawing as a file's content.

    Raises:
        UserError: there is no such format.
    """
    if file_format not in WRITERS:
        raise UserError(f"there is no drawing format {file_format}; choose svg, pdf or tikz")
    return WRITERS[file_format](drawing)
