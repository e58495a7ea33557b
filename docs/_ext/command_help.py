"""The directive `command-help`: a section for every verb of the command, from its own help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata
from typer import Context
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

import convatlas.cli
from convatlas.cli.app import app


def commands(command: object, name: str) -> Iterator[tuple[str, TyperCommand]]:
    """Every verb with its full name, as "convatlas experiment run", in the order of the help."""
    if isinstance(command, TyperGroup):
        for verb, inner in command.commands.items():
            yield from commands(inner, f"{name} {verb}")
    elif isinstance(command, TyperCommand):
        yield name, command


def section(name: str, command: TyperCommand) -> list[str]:
    """The help of one verb in Markdown."""
    context = Context(command, info_name=name)
    usage = command.get_usage(context).removeprefix("Usage: ")
    lines = [f"## {name}", "", escaped(command.help or ""), "", "```text", usage, "```", "", *fenced("program", name)]
    arguments = [one for one in command.params if isinstance(one, TyperArgument)]
    options = [one for one in command.params if isinstance(one, TyperOption) and not one.hidden]
    for argument in arguments:
        lines += described(argument, context)
    for panel in dict.fromkeys([None, *(option.rich_help_panel for option in options)]):
        lines += [f"### {panel}", ""] if panel else []
        for option in options:
            lines += described(option, context) if option.rich_help_panel == panel else []
    return lines


def described(parameter: TyperArgument | TyperOption, context: Context) -> list[str]:
    """An argument or option as the help has it: name and type, text and default."""
    record = parameter.get_help_record(context)
    assert record is not None, "it is not hidden"
    return fenced("option", record[0], escaped(" ".join(record[1].split())))


def fenced(directive: str, argument: str, content: str = "") -> list[str]:
    return [f"```{{{directive}}} {argument}", content, "```", ""]


def escaped(text: str) -> str:
    """Plain text as Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", text)


class CommandHelp(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        for path in Path(convatlas.cli.__file__).parent.glob("*.py"):
            self.env.note_dependency(path)
        lines = [line for name, command in commands(get_command(app), "convatlas") for line in section(name, command)]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
