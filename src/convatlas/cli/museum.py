"""convatlas museum build, convatlas museum open"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convatlas.cli.console import Json, Quiet, count, print_facts, print_json, print_line, size

museum = typer.Typer(help="A museum of the networks: pages to look at in a browser.", no_args_is_help=True)

FOLDER = Path("site")


@museum.command("build")
def build_pages(
    out: Annotated[Path, typer.Option(help="Folder of the museum; an earlier one in it is replaced.")] = FOLDER,
    experiments: Annotated[
        Path | None, typer.Option(help="Folder of results of experiments to show, as convatlas experiment run --out.")
    ] = None,
    lenet5: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="A run or model of lenet5, trained on digits, to read what a person draws."),
    ] = None,
    lenet1989: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Likewise of lenet1989, to read beside lenet5.")
    ] = None,
    lenet5_modern: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Likewise of lenet5-modern, to read beside lenet5.")
    ] = None,
    artefact: Annotated[
        Path | None,
        typer.Option(help="An artefact for ONNX Runtime, as convatlas export makes it, to see a person's own images."),
    ] = None,
    onnxruntime_web: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The npm package onnxruntime-web, which runs it, if it is not to be downloaded."
        ),
    ] = None,
    docs: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Documentation to link to from every page, as ../index.html."),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Build the pages: a folder for a double click on index.html, or for any static host. It takes a minute."""
    from convatlas.cli.progress import loading_progress
    from convatlas.museum import build

    built = build(
        out,
        experiments=experiments,
        lenet5=lenet5,
        lenet1989=lenet1989,
        lenet5_modern=lenet5_modern,
        artefact=artefact,
        onnxruntime_web=onnxruntime_web,
        docs=docs,
        progress=loading_progress(quiet),
    )
    if json:
        print_json({"folder": str(built.folder), "files": built.num_files, "bytes": built.num_bytes})
        return
    print_facts(
        [
            ("museum", str(built.folder / "index.html")),
            ("files", count(built.num_files)),
            ("size", size(built.num_bytes)),
        ]
    )


@museum.command("open")
def open_pages(
    folder: Annotated[Path, typer.Argument(help="Folder of a museum, as convatlas museum build makes it.")] = FOLDER,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of this machine; 0: one that is free.")] = 0,
) -> None:
    """Serve a museum to browsers on this machine until Ctrl-C, and print its address."""
    from convatlas.museum import MuseumServer

    with MuseumServer(folder, port) as server:
        print_line(f"{server.address}  (Ctrl-C ends it)")
        server.serve()
