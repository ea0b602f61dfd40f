"""Words on the terminal: errors as one line, and text of others, which is never read as markup or as control codes."""

from __future__ import annotations

import sys
from functools import cache

from rich.console import Console
from rich.text import Text

__all__ = ["console", "harden_streams", "plain", "say_error"]


@cache
def console() -> Console:
    """Return the terminal, or whatever takes its place; asked what it is when a command first prints, not at import."""
    return Console()


def plain(text: object) -> Text:
    """Return text that comes from data as it may be shown: no markup, and what cannot be printed escaped."""
    return Text("".join(sign if sign.isprintable() else _escaped(sign) for sign in str(text)))


def say_error(message: str) -> None:
    """Print an error as one line on stderr."""
    line = Text.assemble(("error:", "bold red"), " ", plain(" ".join(message.split("\n"))))
    Console(stderr=True, soft_wrap=True, highlight=False).print(line)


def harden_streams() -> None:
    """Let a sign that the terminal's encoding lacks be shown escaped, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # the streams of a command are text


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
