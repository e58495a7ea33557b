"""Docstrings in the Python reference: Google's sections, no argument said twice, and a warning where there is none."""

from __future__ import annotations

import dataclasses
import inspect
from enum import Enum
from typing import Any, Protocol

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyXRefRole
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata

logger = logging.getLogger(__name__)


class NameRole(PyXRefRole):
    """What stands in single backticks: a link where it is a name of the reference, and else code.

    A name with a dot or a capital, as `Run.model`, is found wherever it is; others only in the class or module at hand.
    """

    def process_link(
        self, env: BuildEnvironment, refnode: nodes.Element, has_explicit_title: bool, title: str, target: str
    ) -> tuple[str, str]:
        # Not the base class's: it takes the dot of `.cva` for a wish of its own.
        refnode["reftype"] = "obj"
        refnode["py:module"], refnode["py:class"] = (env.ref_context.get(name) for name in ("py:module", "py:class"))
        if "." in target or target[:1].isupper():
            refnode["refspecific"] = True
        return title, target


def parse(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Turn the sections of a docstring into fields, and warn where there is no docstring: a strict build fails then."""
    # A data class or a named tuple without one gets its signature for a docstring.
    if not any(lines) or (inspect.isclass(value) and lines[0].startswith(f"{value.__name__}(")):
        logger.warning("%s has no docstring", name)
    # Without `what`: that of an attribute is prose too, and no "type: text".
    lines[:] = GoogleDocstring(lines, obj=value).lines()


def without_arguments(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, None] | None:
    """No arguments behind the name of a data class, whose fields follow with their types and defaults; nor behind
    that of an enumeration or a protocol, which nobody calls."""
    if what != "class":
        return None
    is_called = not (dataclasses.is_dataclass(value) or Protocol in value.__bases__ or issubclass(value, Enum))
    return None if is_called else ("", None)


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_role_to_domain("py", "name", NameRole())
    app.connect("autodoc-process-docstring", parse)
    app.connect("autodoc-process-signature", without_arguments)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
