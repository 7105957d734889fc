"""How the pages in this folder become a site: `nox -s docs` builds it, and runs each example of it."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = author = "spec-kitty-orchestrator"
copyright = "its contributors, MIT license"  # noqa: A001 - the name that Sphinx reads
version = release = metadata.version("spec-kitty-orchestrator")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "from_the_code",
    "run_examples",
]
exclude_patterns = ["extensions"]
# Indented text is what a terminal shows; a block of another language says so.
highlight_language = "text"
nitpicky = True

myst_enable_extensions = ["colon_fence"]
# As GitHub names the anchors of headings, so that a link works in both.
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"spec-kitty-orchestrator {release}"
html_copy_source = False
html_show_sphinx = False

doctest_test_doctest_blocks = ""

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
napoleon_use_ivar = True
# What stands in backticks in a docstring is a link where it is a public name, and code where it is not.
default_role = "py:obj"
nitpick_ignore_regex = [
    ("py:obj", ".*"),
    # Pages of others; a build needs no network.
    ("py:.*", r"(anyio|collections|contextlib|datetime|enum|pathlib|types|typing)\..*"),
    # Parts that come ready made: what may be used of them stands at their ports.
    ("py:class", r"spec_kitty_orchestrator\.(agents|app|driver|host|machine|settings)\..*"),
]
