"""What came of balancing a concept, in words."""

from __future__ import annotations

from ...rece_ops.measures.rates import Rate
from ...rece_ops.texts import quoted
from ..host.detectors.detector import Detector
from ..host.jobs.balance import Balance, Tally
from ..request.concept_lines import ConceptLine
from ..request.target_mixtures import mixture_of


def balance_report(line: ConceptLine, found: Balance, detector: Detector) -> str:
    """The mixture that was found, and what pictures show that nothing was chosen by.

    Args:
        line: the concept with the shares that were asked for.
        found: what came of it.
        detector: that looked at the pictures.
    """
    wanted = mixture_of(line.target)
    mixture = found.request.concepts[0].target
    rounds, pictures = len(found.rounds), found.rounds[0].seen.pictures
    lines = [
        *_warnings(wanted, found),
        f"{quoted(line.concept)} is mapped to {mixture}, found in {rounds} round{'s' if rounds > 1 else ''} of {pictures} "
        "pictures.",
        f"In {found.after.pictures} other pictures, which nothing was chosen by, {detector.name} is surest of:",
    ]
    lines += [
        f"{quoted(target)}, asked for {share:.0%}: before {_rate(found.before, target)}, after {_rate(found.after, target)}"
        for target, share in wanted.items()
    ]
    missing = found.after.pictures - found.after.counted
    if missing:
        lines.append(f"None of them: {missing} of {found.after.pictures} pictures.")
    lines.append("Percentages are of the pictures that show any of them, in brackets the 95% interval.")
    return "\n".join(lines)


def _rate(tally: Tally, target: str) -> str:
    rate = Rate(tally.counts[target], tally.counted)
    low, high = rate.interval()
    return f"{rate.share:.0%} ({low:.0%} to {high:.0%})" if rate.trials else "none"


def _warnings(wanted: dict[str, float], found: Balance) -> list[str]:
    for target, share in wanted.items():
        rate = Rate(found.after.counts[target], found.after.counted)
        low, high = rate.interval()
        if not low <= share <= high:
            return [
                f"Warning: The shares are not those asked for: {quoted(target)} has {rate.share:.0%} and should have {share:.0%}. "
                "Raise 'rounds' and 'pictures', or give targets that the detector tells apart better."
            ]
    return []
