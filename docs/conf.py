"""The site of convatlas. `scripts/docs` builds it into `build/docs`."""

import sys
from pathlib import Path

import convatlas

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

html_theme = "furo"
html_title = "convatlas"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
