"""The first line on an erasure, and what to do about it: the worst of what was found, in words that the numbers carry.

No number here has seen a picture. The thresholds are those of `rece_ops.measures.thresholds`; where a number cannot say
it, the words are 'look at pictures'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...rece_ops import ConceptMeasures, Measures
from ...rece_ops.measures.thresholds import (
    HIGH_REGENERATION,
    HIGH_RESIDUAL,
    RUINOUS_DRIFT,
    SMALL_RESIDUAL,
    VISIBLE_DRIFT,
)
from ...rece_ops.texts import printable, quoted
from ..request.concept_lines import text_key
from ..request.methods import Remedies

_SHORT = 40

GOOD, CAUTION, BAD = "good", "caution", "bad"
LOOK = "Look at pictures before you rely on it."
NO_TARGET = "Give it a target: 'concepts' takes 'a -> b'. Without one the model draws what it draws by habit, which may be the concept."


@dataclass(frozen=True)
class Verdict:
    """What to see first.

    Attributes:
        tone: good, caution or bad; the panel's colour.
        headline: what was found, its parts between middle dots.
        remedy: what to do, by the name of a control on the node.
    """

    tone: str
    headline: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        """For the front end."""
        return {"tone": self.tone, "headline": self.headline, "remedy": self.remedy}

    def __str__(self) -> str:
        return f"{self.headline}. {self.remedy}"


def verdict(
    measures: Measures,
    remedies: Remedies,
    already: Iterable[str] = (),
    names: Iterable[str] = (),
    untargeted: Iterable[str] = (),
    elsewhere: bool = False,
) -> Verdict:
    """Judge an erasure.

    Args:
        measures: of it.
        remedies: what its method names for each trouble.
        already: concepts that an earlier erasure on the model names, of which nothing is left to be measured, by
            `text_key`.
        names: concepts that the eraser itself names, by `text_key`; all, where there are none.
        untargeted: concepts without a target, by `text_key`: their prompts draw what the model draws by habit.
        elsewhere: whether the controls are not on the node itself, but on 'Erase Concepts'.
    """
    gone_before, named = set(already), set(names)
    judged = [concept for concept in measures.concepts if text_key(concept.name) not in gone_before]
    if not judged:
        return Verdict(
            CAUTION,
            f"{_subject(measures.concepts)}: already erased in the model that came in · {_moved(measures)}",
            "Connect the model before that erasure, and erase all concepts in one 'Erase Concepts' node.",
        )
    left = max(judged, key=lambda concept: concept.residual)
    back = max(judged, key=lambda concept: concept.regeneration[-1])
    nowhere = [concept for concept in judged if text_key(concept.name) in set(untargeted)]
    headline = " · ".join((_presence(judged, left, nowhere), _moved(measures), _returned(back)))
    drifted, drift = _worst_drift(measures)
    where = "On 'Erase Concepts': " if elsewhere else ""
    if left.residual > HIGH_RESIDUAL:
        # To erase by name what was erased by name already would be no remedy.
        by_name = not named or text_key(left.name) in named
        remedy = remedies.left if by_name else f"Add {quoted(left.name, _SHORT)} to 'concepts'."
        return Verdict(BAD, headline, where + remedy)
    if drift > VISIBLE_DRIFT:
        like = f"Add prompts like {quoted(drifted, _SHORT)} to 'preserve'. " if drifted else ""
        return Verdict(BAD, headline, f"{where}{like}{remedies.drifted}")
    if back.regeneration[-1] > HIGH_REGENERATION:
        return Verdict(CAUTION, headline, where + remedies.back)
    if nowhere:
        return Verdict(CAUTION, headline, where + NO_TARGET)
    return Verdict(GOOD if left.residual <= SMALL_RESIDUAL else CAUTION, headline, LOOK)


def _subject(concepts: Iterable[ConceptMeasures]) -> str:
    found = list(concepts)
    return printable(found[0].name, _SHORT) if len(found) == 1 else f"{len(found)} concepts"


def _presence(concepts: list[ConceptMeasures], left: ConceptMeasures, nowhere: list[ConceptMeasures]) -> str:
    if left.residual <= SMALL_RESIDUAL and nowhere:
        which = "its prompts" if len(concepts) == 1 else f"prompts of {quoted(nowhere[0].name, _SHORT)}"
        return f"{_subject(concepts)}: {which} now draw what the model draws by habit"
    if left.residual <= SMALL_RESIDUAL:
        return f"{_subject(concepts)}: gone from {'its' if len(concepts) == 1 else 'their'} prompts"
    worst = "" if len(concepts) == 1 else f" of {quoted(left.name, _SHORT)}"
    if left.residual <= HIGH_RESIDUAL:
        return f"{_subject(concepts)}: mostly gone, {left.residual:.0%}{worst} left"
    if len(concepts) == 1:
        return f"{_subject(concepts)}: still there, {left.residual:.0%} left"
    count = sum(concept.residual > HIGH_RESIDUAL for concept in concepts)
    return f"{count} of {len(concepts)} concepts still there, {left.residual:.0%}{worst} left"


def _moved(measures: Measures) -> str:
    name, drift = _worst_drift(measures)
    if drift > RUINOUS_DRIFT:
        return f"other prompts ruined ({quoted(name or '(empty prompt)', _SHORT)} moved {drift:.0%})"
    if drift > VISIBLE_DRIFT:
        return f"other prompts visibly changed ({quoted(name or '(empty prompt)', _SHORT)} moved {drift:.0%})"
    return f"other prompts moved {drift:.0%} at most"


def _returned(back: ConceptMeasures) -> str:
    """Never that it is blocked: also where it brings back a fifth of the outputs, pictures showed the concept."""
    return f"derived embedding brings back {back.regeneration[-1]:.0%}"


def _worst_drift(measures: Measures) -> tuple[str, float]:
    drifts: Mapping[str, float] = {**measures.drift, **measures.held_out_drift}
    name = max(drifts, key=drifts.__getitem__)
    return name, drifts[name]
