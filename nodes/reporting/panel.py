"""What `web/js/report.js` shows on a node after a run."""

from __future__ import annotations

from typing import Any

from .verdict import Verdict

VERDICT = "rece_verdict"


def panel(details: str, verdict: Verdict) -> dict[str, list[Any]]:
    """The verdict in its colour, and the rest folded behind it."""
    return {VERDICT: [verdict.as_dict()], "text": [details]}
