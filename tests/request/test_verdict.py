"""The first line on an erasure says no more than its numbers, and names controls that a person sees."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from rece_pack.nodes.reporting.verdict import BAD, CAUTION, GOOD, LOOK, NO_TARGET, Verdict, verdict
from rece_pack.nodes.request.erase_inputs import CHOICES, NUMBERS
from rece_pack.nodes.request.input_specs import ChoiceSpec
from rece_pack.nodes.request.methods import METHODS
from rece_pack.rece_ops import ConceptMeasures, Measures

REMEDIES = METHODS["RECE"].advice.remedies
VISIBLE = {"concepts", "preserve", "strength", "preset", "method"}


def judged(
    residual: float = 0.0,
    back: float = 0.0,
    drift: float = 0.0,
    names: tuple[str, ...] = (),
    untargeted: tuple[str, ...] = (),
) -> Verdict:
    concepts = (ConceptMeasures("striped", residual, (0.9, back), 1.0), ConceptMeasures("red", 0.0, (0.0,), 1.0))
    return verdict(
        Measures(concepts, {"": 0.0}, {"a dog": drift}, 0.1, {}), REMEDIES, names=names, untargeted=untargeted
    )


@pytest.mark.parametrize(
    ("found", "tone", "headline", "remedy"),
    [
        (
            judged(drift=0.03),
            GOOD,
            "2 concepts: gone from their prompts · other prompts moved 3% at most · derived embedding brings back 0%",
            LOOK,
        ),
        (judged(residual=0.4), CAUTION, "2 concepts: mostly gone, 40% of 'striped' left", LOOK),
        (judged(residual=0.6), BAD, "1 of 2 concepts still there, 60% of 'striped' left", REMEDIES.left),
        (judged(residual=0.6, names=("red",)), BAD, "1 of 2 concepts still there", "Add 'striped' to 'concepts'."),
        (judged(residual=0.6, names=("striped",)), BAD, "1 of 2 concepts still there", REMEDIES.left),
        (
            judged(drift=0.8),
            BAD,
            "2 concepts: gone from their prompts · other prompts visibly changed",
            "Add prompts like",
        ),
        (
            judged(drift=1.2),
            BAD,
            "2 concepts: gone from their prompts · other prompts ruined",
            "Add prompts like 'a dog'",
        ),
        (judged(drift=0.6), GOOD, "2 concepts: gone from their prompts · other prompts moved 60% at most", LOOK),
        (judged(back=0.8), CAUTION, "2 concepts: gone from their prompts · ", REMEDIES.back),
        (
            judged(untargeted=("red",)),
            CAUTION,
            "2 concepts: prompts of 'red' now draw what the model draws by habit · ",
            NO_TARGET,
        ),
        (judged(residual=0.6, untargeted=("striped",)), BAD, "1 of 2 concepts still there", REMEDIES.left),
    ],
)
def test_the_worst_of_what_was_found_is_said(found: Verdict, tone: str, headline: str, remedy: str) -> None:
    assert found.tone == tone
    assert found.headline.startswith(headline)
    assert found.remedy.startswith(remedy)


def test_nothing_is_judged_of_what_was_erased_before() -> None:
    concepts = (ConceptMeasures("Striped", 1.56, (0.9,), 1.0),)
    found = verdict(Measures(concepts, {"": 0.0}, {}, 0.1, {}), REMEDIES, already={"striped"})
    assert found.tone == CAUTION
    assert "156%" not in str(found)
    assert found.headline.startswith("Striped: already erased in the model that came in")


@pytest.mark.parametrize("method", METHODS)
def test_every_remedy_names_controls_that_are_visible_with_the_method(method: str) -> None:
    own = {spec.name for spec in (*NUMBERS, *CHOICES) if not spec.advanced and not spec.when}
    own &= {*METHODS[method].inputs}
    values = {option for spec in CHOICES if isinstance(spec, ChoiceSpec) for option in spec.options}
    remedies = METHODS[method].advice.remedies
    for field in fields(remedies):
        named = set(re.findall(r"'(\w+)'", getattr(remedies, field.name)))
        assert named <= VISIBLE | own | values
        assert named & (VISIBLE | own)
