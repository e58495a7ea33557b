"""HTML pages in one file: without scripts, and without style sheets or images from elsewhere."""

from __future__ import annotations

import base64

import jinja2
from markupsafe import Markup

from convatlas import formatting
from convatlas.formatting import visible


def render_page(package: str, template: str, values: dict[str, object]) -> bytes:
    """A package's template, filled in: HTML that is well-formed XML too.

    All values are escaped, and shown as in a terminal, since names of classes and files may hold anything.

    Args:
        package: the package that the template lies in, as "convatlas.runs".
        template: its file name.
        values: for the template's variables.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package, ""), jinja2.PackageLoader("convatlas.draw", "")]),
        autoescape=True,
        finalize=_visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count": formatting.count,
        "round_count": formatting.round_count,
        "size": formatting.size,
        "duration": formatting.duration,
        "percent": formatting.percent,
        "shorten": formatting.shorten,
    }
    return environment.get_template(template).render(values).encode()


def _visible(value: object) -> object:
    """Each value before it is escaped; what is a part of the page already, as of a macro, stays."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def data_uri(kind: str, content: bytes) -> str:
    """An image as a data URI.

    Args:
        kind: its media type, as "image/png".
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def svg_uri(content: bytes) -> str:
    """A plot as a data URI: as an image it runs no scripts, and its element ids are its own."""
    return data_uri("image/svg+xml", content)
