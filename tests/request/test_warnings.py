"""What a report warns of, and which settings it names."""

from __future__ import annotations

import pytest
from rece_pack.nodes.reporting.warnings import notes, warnings
from rece_pack.nodes.request.methods import METHODS
from rece_pack.rece_ops import ConceptMeasures, Measures
from rece_pack.rece_ops.linear.solves import WARN_CONDITION

GONE, LEFT = (ConceptMeasures(name, residual, (0.0,), 1.0) for name, residual in (("gone", 0.1), ("left", 0.9)))


def measures(*concepts: ConceptMeasures, drift: float = 0.0, condition: float = 1.0) -> Measures:
    return Measures(concepts or (GONE,), {"": 0.0}, {"a dog": drift}, 0.1, {"first edit": condition})


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_said_where_all_is_well(method: str) -> None:
    assert warnings(measures(), METHODS[method].advice) == ()


@pytest.mark.parametrize("method", METHODS)
def test_every_warning_names_settings_that_the_method_has(method: str) -> None:
    advice = METHODS[method].advice
    found = warnings(measures(LEFT, GONE, drift=0.8, condition=2 * WARN_CONDITION), advice)
    assert len(found) == 3
    assert "'a dog' change by 80%" in found[0]
    assert "will visibly change" in found[0]
    assert "1 of 2 concepts are still there: 'left' keeps 90%" in found[1]
    assert "The first edit is ill-conditioned" in found[2]
    quoted = {
        part for sentence in (advice.milder, advice.stronger, advice.steadier) for part in sentence.split("'")[1::2]
    }
    assert quoted <= set(METHODS[method].inputs)


def test_a_ruinous_drift_is_called_so() -> None:
    (sentence,) = warnings(measures(drift=1.2), METHODS["RECE"].advice)
    assert "will mostly lose what they say" in sentence


def test_a_method_without_limits_has_no_notes() -> None:
    assert notes(None) == ()
