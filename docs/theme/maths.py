"""Equations of docstrings as MathML, which browsers show by themselves: no script, nothing to fetch."""

import re
from typing import Any

import griffe
from latex2mathml.converter import convert

MATHS = re.compile(r":math:`([^`]*)`")


class Maths(griffe.Extension):
    """Turns :math:`...` of a docstring into MathML before it becomes a page."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            text = MATHS.sub(lambda found: convert(" ".join(found[1].split())), obj.docstring.value)
            obj.docstring.value = text
