"""convatlas weights, convatlas import"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convatlas.cli.console import (
    Column,
    Json,
    count,
    print_error,
    print_facts,
    print_json,
    print_line,
    print_table,
)
from convatlas.errors import UserError

if TYPE_CHECKING:
    from convatlas.weights.library import Network
    from convatlas.weights.published import Published


def weights(
    network: Annotated[
        str | None, typer.Argument(help="A network of the atlas, or a library as torchvision; by default all.")
    ] = None,
    json: Json = False,
) -> None:
    """List published weights: size, accuracy, preprocessing, license, and which are on this machine already."""
    from convatlas.weights.local import find_here
    from convatlas.weights.offers import in_place_of, none_published
    from convatlas.weights.published import published
    from convatlas.weights.taking import network_of, published_for

    rows = published() if network is None else published_for(network)
    here = {row.name: find_here(row) for row in rows}
    if json:
        print_json({"weights": [as_json(row, network_of(row), here[row.name]) for row in rows]})
        return
    if network is not None and not rows:
        print_line(none_published(network, in_place_of(network)))
        return
    print_table(
        [
            Column("weights"),
            Column("network"),
            Column("parameters", right=True),
            Column("data", optional=True),
            Column("top-1", right=True),
            Column("top-5", right=True, optional=True),
            Column("pixels", right=True),
            Column("resize", optional=True),
            Column("license", optional=True),
            Column("here"),
        ],
        [
            (
                row.name + (" *" if row.is_default else ""),
                network_of(row).variant,
                count(row.params),
                row.data,
                percent_or_none(row.top1),
                percent_or_none(row.top5),
                str(row.preprocessing.crop),
                f"{row.preprocessing.resize} {row.preprocessing.interpolation}",
                row.license,
                "yes" if here[row.name] else "",
            )
            for row in rows
        ],
    )
    print_line()
    print_line("* what the library's name alone stands for, as in convatlas train resnet18 --from torchvision")


def percent_or_none(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} %"


def as_json(row: Published, network: Network, here: Path | None) -> dict[str, object]:
    preprocessing = row.preprocessing
    return {
        "name": row.name,
        "network": network.variant,
        "width": network.scale.width,
        "params": row.params,
        "is_default": row.is_default,
        "data": row.data,
        "top1": None if row.top1 is None else row.top1 / 100,
        "top5": None if row.top5 is None else row.top5 / 100,
        "address": row.address,
        "checksum": row.checksum,
        "license": row.license,
        "note": row.note,
        "crop": preprocessing.crop,
        "resize": preprocessing.resize,
        "mode": str(preprocessing.mode),
        "interpolation": str(preprocessing.interpolation),
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "value_range": preprocessing.value_range,
        "channel_order": str(preprocessing.channel_order),
        "path": None if here is None else str(here),
    }


def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="A file of weights: .pth, .safetensors, .h5 or .caffemodel.")],
    name: Annotated[
        str,
        typer.Option(
            "--as", help="The network, as resnet50-v1.5, or whose weights these are, as torchvision:resnet50.v2."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder of the model.")],
    classes: Annotated[
        Path | None, typer.Option(help="A file with the class names, one a line, in the order of the outputs.")
    ] = None,
    allow_nan: Annotated[
        bool, typer.Option("--allow-nan", help="Take weights that are not finite numbers, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a model of another library's weights; evaluate, predict, train --from and compress take it."""
    from convatlas.models.imported import import_checkpoint

    imported = import_checkpoint(
        checkpoint, name, classes=None if classes is None else lines_of(classes), allow_nan=allow_nan
    )
    model = imported.model.save(out)
    rows = imported.taken.mapped.rows
    origin = model.provenance.imported
    whose = "" if origin is None else origin.weights
    if json:
        print_json(
            {
                "model": str(out),
                "network": model.card.variant,
                "weights": whose or None,
                "notes": imported.notes,
                "mapping": [{"name": row.ours, "from": row.theirs, "shape": row.shape} for row in rows],
            }
        )
        return
    but = " but what only training has" if imported.taken.mapped.kept else ""
    for note in imported.notes:
        print_error(note)
    print_facts(
        [
            ("model", str(out)),
            ("network", model.card.variant),
            *([("weights", whose)] if whose else []),
            ("tensors", f"{count(len(rows))}, all of the network's{but}"),
            ("parameters", count(model.card.params)),
            ("classes", count(len(model.classes))),
            ("input", f"{model.preprocessing.crop} px"),
        ]
    )


def lines_of(path: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        UserError: it cannot be read as text.
    """
    from convatlas.files import read

    try:
        text = read(path).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8; save the class names in that encoding, one a line") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
