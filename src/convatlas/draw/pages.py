"""HTML pages in one file: without scripts, and without style sheets or images from elsewhere."""

from __future__ import annotations

import base64

import jinja2

from convatlas import formatting
from convatlas.draw.plots import printable


def render_page(package: str, template: str, values: dict[str, object]) -> bytes:
    """A package's template, filled in: HTML that is well-formed XML too.

    All values are escaped, since names of classes and files may hold anything.

    Args:
        package: the package that the template lies in, as "convatlas.runs".
        template: its file name.
        values: for the template's variables.
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
        "shorten": formatting.shorten,
    }
    return printable(environment.get_template(template).render(values)).encode()


def data_uri(kind: str, content: bytes) -> str:
    """An image as a data URI.

    Args:
        kind: its media type, as "image/png".
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def svg_uri(content: bytes) -> str:
    """A plot as a data URI: as an image it runs no scripts, and its element ids are its own."""
    return data_uri("image/svg+xml", content)
