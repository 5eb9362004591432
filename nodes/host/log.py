"""The pack's one logger: what a server's operator sees of it in ComfyUI's console."""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("rece")
"""Says in a line what changed a MODEL or a file; silence it with ``logging.getLogger("rece").setLevel("WARNING")``."""


def tell(report: str) -> None:
    """Log the first line of a node's report."""
    LOGGER.info("RECE: %s", report.partition("\n")[0])
