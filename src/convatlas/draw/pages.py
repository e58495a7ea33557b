"""Pages that need nothing beside themselves: no script, no style sheet, no image from elsewhere."""

from __future__ import annotations

import base64

import jinja2

from convatlas import formatting
from convatlas.draw.plots import printable


def page(package: str, template: str, values: dict[str, object]) -> bytes:
    """A template of a package, filled, well-formed XML too.

    What is put into it may be a stranger's text, as names of classes and files: all of it is escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package, ""), jinja2.PackageLoader("convatlas.draw", "")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count": formatting.count,
        "size": formatting.size,
        "duration": formatting.duration,
        "percent": formatting.percent,
    }
    return printable(environment.get_template(template).render(values)).encode()


def data_uri(kind: str, content: bytes) -> str:
    """An image as an address; `kind` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def svg(content: bytes) -> str:
    """The address of a plot: as an image of its own it runs no script, and shares no names with other plots."""
    return data_uri("image/svg+xml", content)
