"""The benchmarks' other ways to look at concepts: as the method's own where nothing differs, and blind to what does not count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rece_pack.nodes.request.methods import EncodedRequest, plan_with
from rece_pack.rece_ops import ConceptPair, Contrast, Differences, ProjectionSettings, RECESettings, gram_matrix
from torch import Tensor

from benchmarks.erased_models import LAST_TOKEN, LATER_TOKENS, settings
from benchmarks.other_plans import OtherPlan

SETTINGS = (RECESettings(epochs=0), ProjectionSettings())


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _encoded(weights: dict[str, Tensor], concept: Tensor, target: Tensor) -> EncodedRequest:
    pair = ConceptPair("x", concept, target, 1, 1)
    differences = Differences(gram_matrix(weights), ["x"])
    differences.add(Contrast("x", concept[1:], _random(4, 8, seed=3), target[1:]))
    return EncodedRequest(
        [pair], {"": _random(4, 8, seed=4)}, differences=differences, calibration=[_random(9, 8, seed=5)]
    )


def _transform(settings: Any, concept: Tensor, **looks: Any) -> Tensor:
    weights = {"to_k.weight": _random(12, 8, seed=0)}
    plan = OtherPlan(plan_with(settings), **looks)
    encoded = _encoded(weights, concept, _random(5, 8, seed=2))
    matrix: Tensor = plan.run(weights, encoded, None).erasure.eraser.matrix()
    return matrix


@pytest.mark.parametrize("settings", SETTINGS, ids=("UCE", "projection"))
def test_a_plan_that_looks_nowhere_else_is_the_methods_own(settings: Any) -> None:
    weights, concept = {"to_k.weight": _random(12, 8, seed=0)}, _random(5, 8, seed=1)
    own = plan_with(settings).run(weights, _encoded(weights, concept, _random(5, 8, seed=2)), None)
    assert torch.equal(_transform(settings, concept), own.erasure.eraser.matrix())


@pytest.mark.parametrize("looks", [{}, {"from_target": True}], ids=("others", "target"))
@pytest.mark.parametrize("settings", SETTINGS, ids=("UCE", "projection"))
def test_tokens_that_do_not_count_change_nothing(settings: Any, looks: dict[str, Any]) -> None:
    concept = _random(5, 8, seed=1)
    # Token 1 is the last subject token.
    for tokens, ignored in ((LAST_TOKEN, slice(2, None)), (LATER_TOKENS, slice(0, 2))):
        changed = concept.clone()
        changed[ignored] += 1
        first, second = (_transform(settings, one, tokens=tokens, **looks) for one in (concept, changed))
        assert torch.equal(first, second)
        assert not torch.equal(first, _transform(settings, concept, **looks))


def test_every_setting_has_a_name_of_its_own_and_is_in_range() -> None:
    found = list(settings())
    assert len({(one.name, one.preserved) for one in found}) == len(found)
    for one in found:
        # Raises where a value is out of range.
        (ProjectionSettings if one.method == "projection" else RECESettings)(**one.values)
