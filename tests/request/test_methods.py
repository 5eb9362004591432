"""Every method says all that the rest of the pack derives from it."""

from __future__ import annotations

import pytest
import torch
from rece_pack.nodes.request.concept_lines import ConceptLine
from rece_pack.nodes.request.erase_inputs import CHOICES, NUMBERS, counts_for, plan_of, tooltip_of
from rece_pack.nodes.request.erasure_request import ErasureRequest, request_of
from rece_pack.nodes.request.methods import METHODS, EncodedRequest, assessment_plan, methods_with, plan_with
from rece_pack.rece_ops import (
    ConceptPair,
    Contrast,
    Differences,
    InputError,
    ProjectionSettings,
    RECESettings,
    gram_matrix,
)

SPECS = {spec.name: spec for spec in (*NUMBERS, *CHOICES)}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_everything_about_itself(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    assert method.summary.startswith(f"{name}: ")
    assert method.guarantee.endswith(".")
    assert set(method.inputs) <= set(SPECS), "an input that no node has"
    plan = plan_of({"preset": "nudity", "method": name})
    assert plan.method.name == name


@pytest.mark.parametrize("name", METHODS)
def test_a_plan_runs_on_what_it_asked_for(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {"to_k.weight": torch.randn(12, 8, generator=generator)}
    pair = ConceptPair("x", torch.randn(4, 8, generator=generator), torch.randn(4, 8, generator=generator))
    preserved = {"": torch.randn(4, 8, generator=generator)}
    plan = plan_of({"preset": "nudity", "method": name})
    needs = plan.needs(())
    differences = None
    if needs.contexts:
        differences = Differences(gram_matrix(weights), ["x"])
        differences.add(Contrast.of(pair))
    encoded = EncodedRequest(
        [pair],
        preserved,
        differences=differences,
        calibration=[torch.randn(4, 8, generator=generator) for _ in needs.calibration],
    )
    outcome = plan.run(weights, encoded, None)
    assert outcome.erasure.eraser.dimension == 8
    assert name in plan.method.describe([outcome.erasure])


def test_an_input_of_all_methods_is_for_nobody_in_particular() -> None:
    assert set(methods_with("preservation")) == set(METHODS)
    assert tooltip_of(SPECS["preservation"]) == SPECS["preservation"].tooltip
    assert counts_for(SPECS["preservation"]) == {}


def test_the_front_end_is_told_with_which_choices_an_input_counts() -> None:
    assert counts_for(SPECS["epochs"]) == {"preset": ["custom"], "method": ["RECE"]}
    assert counts_for(SPECS["beta"]) == {"robustness": ["custom"], "method": ["projection"]}
    assert tooltip_of(SPECS["directions"]).startswith("Only with the method projection. ")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"method": "projection", "drift_limit": 0.3},
            "'drift_limit' is 0.3, but the method 'projection' does not use it",
        ),
        ({"method": "UCE", "regeneration_limit": 0.3}, "choose the method 'RECE'"),
        ({"method": "RECE", "directions": 3}, "'directions' is 3, but the method 'RECE' does not use it: set it to 0"),
        ({"method": "magic"}, "'method' is 'magic', which is no choice"),
        ({"method": "projection", "robustness": "very"}, "'robustness' is 'very', which is no choice"),
        ({"method": "projection", "preset": "UCE only"}, "asks for another"),
    ],
)
def test_contradictions_are_refused_in_a_sentence(inputs: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_of({"preset": "nudity", **inputs})


def test_a_preset_without_epochs_is_uce_whatever_the_choice() -> None:
    assert plan_of({"preset": "UCE only", "method": "RECE"}).method.name == "UCE"


def test_the_prompts_that_choose_and_those_that_judge_are_different_ones() -> None:
    from rece_pack.nodes.request.everyday_prompts import CALIBRATION, HELD_OUT, TUNING

    assert len({*CALIBRATION, *HELD_OUT, *TUNING}) == len(CALIBRATION) + len(HELD_OUT) + len(TUNING)
    assert plan_of({"preset": "nudity", "drift_limit": 0.3}).needs(()).tuning == TUNING
    assert plan_of({"preset": "nudity"}).needs(()).tuning == ()


def test_erasers_are_judged_by_the_method_that_made_them() -> None:
    assert isinstance(assessment_plan("projection", 0.2).settings, ProjectionSettings)
    for name in ("RECE", "UCE", "combined", None):
        assert assessment_plan(name, 0.2).settings == RECESettings(epochs=0, regularization=0.2)


def test_a_request_is_one_frozen_value() -> None:
    request = request_of("Van Gogh -> art\nnudity", {"preset": "nudity", "templates": "artist", "preserve": "a cat"})
    assert request.concepts == [ConceptLine("Van Gogh", "art"), ConceptLine("nudity", "")]
    assert request.preserved == ["a cat"]
    assert [prompt for _, prompt in request.prompts()][:2] == ["Van Gogh", "painting by Van Gogh"]
    told = request.provenance({"text": request.plan.settings}, "SD1", {"text": 768}, ())
    assert (told.method, told.architecture, told.concepts) == ("RECE", "SD1", ("Van Gogh", "nudity"))
    assert ErasureRequest((), (), plan_with(RECESettings(epochs=0))).plan.method.name == "UCE"


@pytest.mark.parametrize(("field", "value"), [("preset", "mine"), ("templates", "poem")])
def test_a_choice_is_checked_before_anything_is_parsed(field: str, value: str) -> None:
    with pytest.raises(InputError, match=f"'{field}' is '{value}', which is no choice"):
        request_of("", {"preset": "nudity", field: value})
