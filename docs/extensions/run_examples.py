"""Every example in a page is tried: commands and settings are read by the program, Python is run.

The blocks of Python of a page are run in order, in one namespace.

A block with `>>>` shows its results. What another prints stands in a block `testoutput` right after it.
Blocks that are included from a file are not run here: tests run the file.
"""

import read_commands
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

__all__ = ["setup"]


class MakeExamplesTests(SphinxTransform):
    """Mark the blocks as Sphinx's own directives `testcode` and `doctest` mark theirs."""

    default_priority = 500

    def apply(self, **_: object) -> None:
        """Mark all of one page."""
        for block in self.document.findall(nodes.literal_block):
            if block.get("language") in ("python", "pycon") and "source" not in block:
                shows_results = block.astext().lstrip().startswith(">>>")
                block["testnodetype"] = "doctest" if shows_results else "testcode"
                block["groups"] = ["default"]
                block["options"] = {}
                block["language"] = "pycon" if shows_results else "python"


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect this to Sphinx."""
    app.add_transform(MakeExamplesTests)
    read_commands.connect(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
