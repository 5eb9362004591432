"""The pocket model's world: its captions say what its pictures show, and its classifier sees it."""

from __future__ import annotations

import itertools
import re
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocket_model.captions import is_held_out, text_examples, unet_examples
from pocket_model.classifier import NOTHING, classify
from pocket_model.evaluate import rendering_accuracy
from pocket_model.rates import Rate
from pocket_model.rendering import PLACES, render
from pocket_model.trials import CONCEPTS, Concept, concept_named, kept, made, other_captions, other_words, trials
from pocket_model.world import (
    BACKGROUNDS,
    COLOURS,
    IDENTITIES,
    KINDS,
    NEIGHBOURS,
    OBJECTS,
    PHRASES,
    STYLES,
    WEATHERS,
    Caption,
    Description,
    Phrasing,
    Scene,
    describe,
    figure,
    random_caption,
)


def names(caption: Caption, word: str) -> bool:
    """Whether a caption has the word; 'checkered' has no 'red'."""
    return re.search(rf"\b{word}\b", caption.text) is not None


SEEDS = st.integers(0, 2**32)


def test_every_scene_at_every_place_is_seen_as_what_it_is() -> None:
    random = Random(0)
    for thing, style in itertools.product(OBJECTS, STYLES):
        scenes = [
            Scene(
                thing.name,
                random.choice(COLOURS).name,
                style.name,
                random.choice(BACKGROUNDS).name,
                random.choice(WEATHERS).name,
            )
            for _ in PLACES
        ]
        seen = classify(torch.stack([render(scene, place) for scene, place in zip(scenes, PLACES, strict=True)]))
        assert [(one.object, one.colour, one.style, one.weather, one.identity) for one in seen] == [
            (scene.object, scene.colour, scene.style, scene.weather, NOTHING) for scene in scenes
        ]


@pytest.mark.parametrize("name", [word.name for word in IDENTITIES])
def test_every_figure_is_seen_as_who_it_is(name: str) -> None:
    backgrounds, weathers = ([word.name for word in words] for words in (BACKGROUNDS, WEATHERS))
    for background, weather in itertools.product(backgrounds, weathers):
        scene = figure(name, background, weather)
        for seen in classify(torch.stack([render(scene, place) for place in PLACES[::4]])):
            assert (seen.identity, seen.weather, seen.object, seen.colour) == (name, weather, NOTHING, NOTHING)


def test_the_classifier_bears_the_noise_that_a_vae_leaves() -> None:
    for rate in rendering_accuracy(500, seed=3, noise=0.02).values():
        assert rate.share > 0.99  # of pictures, no rounding bound


@pytest.mark.parametrize("coarse", [1, 2, 8, 64])
def test_pictures_that_show_nothing_are_seen_as_nothing(coarse: int) -> None:
    blobs = torch.rand(32, 3, coarse, coarse, generator=torch.Generator().manual_seed(coarse))
    pictures = torch.nn.functional.interpolate(blobs, size=64, mode="bilinear")
    assert {one.object for one in classify(pictures)} == {NOTHING}
    assert {one.style for one in classify(pictures)} == {NOTHING}


@given(SEEDS)
def test_captions_name_what_they_say(seed: int) -> None:
    caption = random_caption(Random(seed), Phrasing(names=0.4, held_out=True))
    for kind, words in KINDS.items():
        said = [word for word in words for text in word.all if names(caption, text)]
        if said:
            assert caption.says.attribute(kind) in {word.name for word in said}


@given(SEEDS)
def test_the_unet_is_never_told_the_words_that_are_held_out(seed: int) -> None:
    for example in unet_examples(seed, 20):
        if not example.everyday:
            held_out = [text for words in KINDS.values() for word in words for text in word.held_out]
            assert not any(names(example.caption, text) for text in held_out), example.caption.text


def test_every_word_has_a_synonym_that_is_held_out_and_a_neighbour() -> None:
    for words in KINDS.values():
        for word in words:
            assert word.held_out
            assert NEIGHBOURS[word.name] in {other.name for other in words} - {word.name}
    assert set(PHRASES) == {name for word in WEATHERS for name in word.all}


def test_the_text_encoder_is_never_shown_the_pairs_that_are_held_out() -> None:
    assert not any(is_held_out(example.caption.says) for example in text_examples(1, 2000))
    assert sum(is_held_out(Description(object=o.name, colour=c.name)) for o in OBJECTS for c in COLOURS) >= 8


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda concept: concept.name)
def test_trials_of_a_concept(concept: Concept) -> None:
    found = trials(concept, 12, 20)
    assert all(names(caption, concept.name) for caption in found.own)
    synonyms = {word.name: word for words in KINDS.values() for word in words}[concept.name]
    for captions, said in ((found.paraphrased, synonyms.synonyms), (found.held_out, synonyms.held_out)):
        assert not any(names(caption, concept.name) for caption in captions)
        assert all(any(names(caption, text) for text in said) for caption in captions)
        assert all(caption.says.attribute(concept.kind) == concept.name for caption in captions)
    assert all(names(caption, concept.neighbour) or concept.neighbour == "plain" for caption in found.neighbours)
    assert not any(names(caption, concept.name) for caption in found.neighbours + found.others)
    assert [len(part) for part in (found.own, found.paraphrased, found.held_out, found.neighbours, found.others)] == [
        12,
        12,
        12,
        6,
        20,
    ]
    assert found == trials(concept, 12, 20)


def test_other_captions_name_none_of_several_concepts() -> None:
    captions = other_captions(CONCEPTS, 50)
    assert not any(names(caption, concept.name) for concept in CONCEPTS for caption in captions)


def test_other_words_are_all_but_the_concepts() -> None:
    words = other_words([concept_named("red"), concept_named("star")])
    assert len(words) == sum(map(len, KINDS.values())) - 2
    assert not {"red", "star"} & set(words)


def test_a_word_that_the_world_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="does not know 'elephant': choose one of circle, ring"):
        concept_named("elephant")


def test_made_and_kept_count_pictures() -> None:
    scenes = [Scene("circle", "red"), Scene("circle", "blue"), Scene("star", "red", "striped")]
    seen = classify(torch.stack([render(scene, PLACES[0]) for scene in scenes]))
    assert made(Concept("circle", "object"), seen) == Rate(2, 3)
    assert kept([describe(scene) for scene in scenes], seen) == Rate(3, 3)
    assert kept([describe(Scene("circle", "red"))] * 3, seen) == Rate(1, 3)
    assert kept([describe(Scene("circle", "red"))] * 3, seen, ["colour"]) == Rate(2, 3)


def test_wilson_intervals() -> None:
    # Published example: Newcombe (1998), table I, r = 15, n = 148 (0.0624 to 0.1605), and r = 0, n = 20 (0 to 0.1611).
    # Printed with four decimals.
    assert Rate(15, 148).interval() == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert Rate(0, 20).interval() == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert Rate(0, 0).interval() == (0.0, 1.0)
    assert Rate(1, 3) + Rate(2, 5) == Rate(3, 8)
