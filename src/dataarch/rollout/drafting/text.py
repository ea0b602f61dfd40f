"""The docstrings of revisions: one sentence, then which locks they take, then what they make impossible."""

from __future__ import annotations

from textwrap import fill

__all__ = ["MOMENT", "docstring"]

WIDTH = 118

MOMENT = "for the moment that a change of the catalog takes"


def docstring(sentence: str, *paragraphs: str) -> str:
    """Return the text of a docstring; paragraphs without words are left out."""
    first = fill(sentence, WIDTH, break_on_hyphens=False, break_long_words=False)
    rest = [fill(one, WIDTH, break_on_hyphens=False, break_long_words=False) for one in paragraphs if one]
    return "\n\n".join([first, *rest])
