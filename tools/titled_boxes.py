"""Sphinx extension: `:::{important} To remember` has the title *To remember*, as it has in JupyterLab.

Sphinx by itself would call the box *Important* and begin its text with the words of the title.
"""

from docutils import nodes
from docutils.parsers.rst.directives.admonitions import Admonition
from sphinx.application import Sphinx


class TitledBox(Admonition):
    """A box whose colour is the directive's name and whose title is its argument, or the name where there is none."""

    required_arguments = 0
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the box as a general admonition, which has a title of its own."""
        self.arguments = self.arguments or [self.name.capitalize()]
        self.options["class"] = [self.name, *self.options.get("class", [])]
        return super().run()


def setup(app: Sphinx) -> dict[str, bool]:
    """Replace the boxes that the book uses."""
    for name in ("important", "note", "tip", "warning"):
        app.add_directive(name, TitledBox, override=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
