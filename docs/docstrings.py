"""Docstrings of the source as the reference needs them: a blank line before each section, short sections in bold."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension

SECTION = re.compile(r"\n+(?=(?:Args|Raises|Shapes|Returns|Source):)")
INLINE = re.compile(r"^(Returns|Source): (?=\S)", re.MULTILINE)
SHAPES = re.compile(r"^Shapes:\n\s+", re.MULTILINE)


class Docstrings(Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Rewrite the docstring of an object, if it has one."""
        if obj.docstring is not None:
            spaced = SECTION.sub("\n\n", obj.docstring.value)
            obj.docstring.value = SHAPES.sub("**Shapes:** ", INLINE.sub(r"**\1:** ", spaced))
