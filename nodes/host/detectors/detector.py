"""What a detector is: pictures in, of each whether it shows the concept, and what was found."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from torch import Tensor

from ....rece_ops.progress import Progress
from ..errors import MissingPackageError


@dataclass(frozen=True)
class Finding:
    """One thing that was found in a picture.

    Attributes:
        label: its class, or the description that fits.
        score: how sure it is, 0 … 1.
        box: left, top, width and height in pixels; None for the whole picture.
    """

    label: str
    score: float
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Detected:
    """What a detector says of one picture.

    Attributes:
        shown: whether it shows the concept.
        score: how sure that is, 0 … 1: of several findings the highest, 0 without any.
        findings: what speaks for it, the surest first.
    """

    shown: bool
    score: float
    findings: tuple[Finding, ...] = ()

    @classmethod
    def by_threshold(cls, findings: Sequence[Finding], threshold: float) -> Detected:
        """Shown if any finding reaches the threshold; those that do not are left out."""
        ordered = sorted(findings, key=lambda finding: -finding.score)
        kept = tuple(finding for finding in ordered if finding.score >= threshold)
        return cls(bool(kept), ordered[0].score if ordered else 0.0, kept)


class Detector(Protocol):
    """Looks for one concept.

    Attributes:
        name: of the detector and its version, for tables.
        rule: when a picture counts, as the end of a sentence that begins with 'A picture counts if '.
    """

    name: str
    rule: str

    def detect(self, pictures: Tensor, progress: Progress | None = None) -> list[Detected]:
        """Look at pictures [n, height, width, 3] in 0 … 1; `progress` is called as progress(done, total, stage)."""
        ...


def optional(package: str, needed_for: str, line: str) -> ModuleType:
    """A package that is no part of ComfyUI, imported now.

    Raises:
        MissingPackageError: it is not installed, or cannot be loaded; the message has the line that installs it.
    """
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == package
        what = "is not installed" if missing else f"cannot be loaded ({error})"
        raise MissingPackageError(
            f"{needed_for} needs the package {package}, which {what}: run 'python -m pip install {line}' in ComfyUI's "
            "environment and start ComfyUI again."
        ) from None
