"""What a tool prints, on consoles that cannot show all of it."""

from __future__ import annotations

import io
import sys


def allow_any_text() -> None:
    """Print what the console's encoding lacks as '?' from now on.

    On Windows, output that goes into a pipe or a file is in the machine's code page, which has no arrows and no Greek, and
    printing a report would end the program.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
