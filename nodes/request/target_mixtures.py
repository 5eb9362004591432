"""Several targets of one concept, each with its share, as the concept fields write them.

male doctor | female doctor             a half of each
male doctor | female doctor : 1, 3      a quarter of the first, three quarters of the second

UCE calls this debiasing (arXiv:2308.14761): the concept is mapped to c* = Σ w_i a_i, a mixture of the targets' token
embeddings, and the w_i are moved until the pictures have the shares asked for. A concept that is among its own targets is
softened instead of erased.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ...rece_ops.texts import quoted
from .quotations import BAR, SEPARATORS, masked_quotations, unquoted
from .typed_text import LineError

MAX_TARGETS = 8
MAX_SHARE = 100.0
EXAMPLE = "doctor -> male doctor | female doctor : 1, 1"

_SHARE = r"\d*\.?\d+(?:[eE][+-]?\d+)?"
_LISTED = re.compile(rf"\s*{_SHARE}\s*(?:[{SEPARATORS}]\s*{_SHARE}\s*)*")
_LIST = re.compile(f"[{SEPARATORS}]")


def read_mixture(number: int, line: str, typed: str) -> str:
    """The mixture that was typed behind the arrow of a line, as `mixture_text` writes it.

    Raises:
        LineError: a target is empty or stands twice, there are too many, or the shares do not fit them.
    """
    masked = masked_quotations(typed)
    end = _shares_begin(masked)
    targets = [_target(typed[start:stop]) for start, stop in _parts(masked[:end])]
    where = f"Line {number} ({quoted(line)})"
    if not all(targets):
        raise LineError(number, f"{where} has an empty target: write one on either side of '|', as in '{EXAMPLE}'.")
    if len({" ".join(target.split()).casefold() for target in targets}) < len(targets):
        raise LineError(number, f"{where} has a target twice: keep one of the two, with a larger share.")
    if len(targets) > MAX_TARGETS:
        raise LineError(number, f"{where} has {len(targets)} targets: give at most {MAX_TARGETS}.")
    if end == len(typed):
        return mixture_text(dict.fromkeys(targets, 1.0))
    return mixture_text(dict(zip(targets, _shares(number, where, typed[end + 1 :], len(targets)), strict=True)))


def mixture_text(shares: Mapping[str, float]) -> str:
    """Targets with their shares as one text, from which `mixture_of` has them again."""
    targets = f" {BAR} ".join(_protected(target) for target in shares)
    return f"{targets} : {', '.join(f'{share:.4g}' for share in shares.values())}"


def mixture_of(target: str) -> dict[str, float]:
    """The shares of the targets in a text of `mixture_text`, which sum to 1; nothing for any other text."""
    masked = masked_quotations(target)
    end = _shares_begin(masked)
    places = list(_parts(masked[:end]))
    if end == len(target) or len(places) < 2:
        return {}
    shares = [float(one) for one in _LIST.split(target[end + 1 :])]
    targets = [_target(target[start:stop]) for start, stop in places]
    if len(shares) != len(targets) or not all(targets) or not min(shares) > 0:
        return {}
    return {name: share / sum(shares) for name, share in zip(targets, shares, strict=True)}


def _shares_begin(masked: str) -> int:
    """Where the colon of the shares is; the end of the text where there is none."""
    place = masked.rfind(":")
    if place < masked.rfind(BAR):
        return len(masked)
    # As with weights: a colon with a blank before it must carry shares, any other may belong to the text.
    stands_alone = place > 0 and masked[place - 1].isspace()
    return place if stands_alone or _LISTED.fullmatch(masked[place + 1 :]) else len(masked)


def _parts(masked: str) -> list[tuple[int, int]]:
    bars = [place for place, character in enumerate(masked) if character == BAR]
    return list(zip([0, *(bar + 1 for bar in bars)], [*bars, len(masked)], strict=True))


def _target(text: str) -> str:
    return unquoted(text.strip()) or text.strip()


def _shares(number: int, where: str, text: str, count: int) -> Sequence[float]:
    if not _LISTED.fullmatch(text):
        raise LineError(
            number,
            f"{where} has the shares {quoted(text.strip())}: give one number for each target, as in '{EXAMPLE}'.",
        )
    found = [float(one) for one in _LIST.split(text)]
    if len(found) != count:
        raise LineError(
            number,
            f"{where} has {count} targets and {len(found)} share{'s' if len(found) > 1 else ''}: give one for each, as in "
            f"'{EXAMPLE}'.",
        )
    if not all(0 < share <= MAX_SHARE for share in found):
        raise LineError(
            number, f"{where} has a share of 0 or above {MAX_SHARE:.0f}: leave out what should not be drawn."
        )
    return found


def _protected(target: str) -> str:
    if not set(target) & {BAR, ":"}:
        return target
    return f"“{target}”" if '"' in target else f'"{target}"'
