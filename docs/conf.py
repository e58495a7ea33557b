"""The site of convatlas. `scripts/docs` builds it into `build/docs`."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

import convatlas
from convatlas.museum.look import COLORS_OF_PAGES, FONTS

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "convatlas"
release = convatlas.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "docstrings", "command_help", "rooms"]

nitpicky = True
nitpick_ignore_regex = [
    # Types of Python and of other libraries are theirs to explain.
    ("py:class", r"Tensor|Path|(?!convatlas\.)[\w.]+\.\w+"),
    # Type variables.
    ("py:class", r"convatlas\.models\.model\.ImageT|convatlas\.measure\.timing\.Name"),
    # In a docstring, much that stands in single backticks is no name of the reference.
    ("py:obj", ".*"),
]
default_role = "py:name"
# "cpu" is typed so.
smartquotes = False
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 88

templates_path = ["_templates"]
html_theme = "furo"
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/museum.html",
        "sidebar/scroll-end.html",
    ]
}


def theme_colors(page: int) -> dict[str, str]:
    """The museum's colors by the theme's names, on a light page (0) or a dark one (1)."""
    named = {
        "page": ("background-primary",),
        "stage": ("background-secondary", "background-hover", "code-background", "inline-code-background"),
        "edge": ("background-border", "foreground-border"),
        "ink": ("foreground-primary", "code-foreground"),
        "soft": ("foreground-secondary", "foreground-muted"),
        "link": ("brand-primary", "brand-content", "brand-visited"),
    }
    return {f"color-{name}": COLORS_OF_PAGES[color][page] for color, names in named.items() for name in names}


fonts = {"font-stack": FONTS["sans"], "font-stack--headings": FONTS["serif"]}
html_theme_options = {
    "light_css_variables": theme_colors(0) | fonts,
    "dark_css_variables": theme_colors(1),
}
html_title = "convatlas"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False


def setup(app: Sphinx) -> None:
    # `scripts/site` sets the tag.
    app.config.html_context["with_museum"] = app.tags.has("museum")
