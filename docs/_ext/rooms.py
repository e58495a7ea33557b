"""The directive `rooms`: the package's layers, as import-linter reads them from `pyproject.toml`, and what each room
is: the first sentence of its docstring."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

ROOT = Path(__file__).parents[2]


def file_of(room: str) -> Path:
    """The file with the docstring of a module or package."""
    path = ROOT.joinpath("src", *room.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def first_sentence(path: Path) -> str:
    docstring = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())
    return re.split(r"(?<=[.!?])\s", docstring)[0]


def table(layers: list[str]) -> str:
    """A Markdown table of the rooms, the highest layer first."""
    rows = [
        f"| {len(layers) - depth} | `{room.removeprefix('convatlas.')}` | {first_sentence(file_of(room))} |"
        for depth, layer in enumerate(layers)
        for room in layer.split(" | ")
    ]
    return "\n".join(["| layer | room | what it is |", "|---:|---|---|", *rows])


class Rooms(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
        layers = next(one["layers"] for one in settings["contracts"] if one["type"] == "layers")
        return self.parse_text_to_nodes(table(layers))


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("rooms", Rooms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
