"""The measurement: what the scan finds, and what the pictures of an erasure by its suggestions alone show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.erased_models import Bench
from pocket_model.classifier import classify
from pocket_model.rates import Rate
from pocket_model.trials import Concept, kept, made, trials
from pocket_model.world import KINDS, Caption, Word

NOT_MEASURED = Rate(0, 0)


@dataclass(frozen=True)
class Outcome:
    """What was found and measured for one concept.

    Attributes:
        concept: its name.
        found: how many of the words suggested for erasure are its synonyms, or words of one of them.
        recalled: how many of its synonyms that the vocabulary has as one word were suggested.
        neighbour: how many of its nearest neighbour were suggested for preservation: one or none.
        target: that was suggested.
        lines: how many lines were erased.
        share: of the concept in its held-out synonyms, before and after the erasure: the largest.
        held_out, own, neighbours, others: as in `benchmarks.efficacy`, of pictures; `before` of the unedited model.
    """

    concept: str
    found: Rate
    recalled: Rate
    neighbour: Rate
    target: str = ""
    lines: int = 0
    share_before: float = 0.0
    share_after: float = 0.0
    held_out: Rate = NOT_MEASURED
    neighbours: Rate = NOT_MEASURED
    others: Rate = NOT_MEASURED
    held_out_before: Rate = NOT_MEASURED
    neighbours_before: Rate = NOT_MEASURED
    others_before: Rate = NOT_MEASURED


class Suggesting:
    """Scan and erasure on the loaded pocket model.

    Args:
        bench: the loaded model.
        pictures: of unseen synonyms and of everything else each, for a concept that is sampled; half as many of its neighbour.
    """

    def __init__(self, bench: Bench, pictures: int) -> None:
        from rece_pack.nodes.host.jobs.encode_words import encode_words
        from rece_pack.nodes.host.session import Session
        from rece_pack.nodes.host.text.vocabulary import whole_words
        from rece_pack.rece_ops.measures.words import WordSpace

        self._bench, self._count = bench, pictures
        self._session = Session.open(bench.pocket.model, bench.pocket.clip)
        self._vocabulary = whole_words(bench.pocket.clip)
        with torch.inference_mode():
            self._words = encode_words(self._session, self._vocabulary, lambda done, total, stage: None)
            self._space = WordSpace(bench.gram, self._words.tokens)
        print(
            f"{self._words.encoded} of {len(self._vocabulary)} words encoded in {self._words.seconds:.1f} s", flush=True
        )

    def scan(self, concept: Concept) -> Any:
        """What Suggest Concepts finds, by its defaults."""
        from rece_pack.nodes.host.jobs.suggest import compare, told_kinds
        from rece_pack.nodes.request.concept_lines import ConceptLine
        from rece_pack.nodes.request.suggestion_request import SuggestionRequest

        request = SuggestionRequest([ConceptLine(concept.name, "")])
        own = [self._tokens([concept.name])[0]]
        kinds = told_kinds(self._session, request, own, self._words, lambda done, total, stage: None)
        return compare(request, own, self._words, self._space, kinds, None, lambda done, total, stage: None)

    def eraser(self, suggestions: Any) -> Any:
        """The erasure by UCE of all lines that were suggested, preserving what was suggested."""
        from rece_pack.nodes.host.jobs.erase import erase_concepts
        from rece_pack.nodes.reporting.suggestions import concept_lines, preserve_lines
        from rece_pack.nodes.request.concept_lines import parse_concepts, parse_preserved
        from rece_pack.nodes.request.erasure_request import ErasureRequest
        from rece_pack.nodes.request.methods import plan_with
        from rece_pack.rece_ops import RECESettings

        lines = parse_concepts(concept_lines(suggestions))
        preserved = parse_preserved(preserve_lines(suggestions), lines)
        plan = plan_with(RECESettings(epochs=0))
        with torch.inference_mode():
            return erase_concepts(self._session, ErasureRequest(lines, preserved, plan)).eraser

    def words(self, concept: Concept, suggestions: Any) -> Outcome:
        """Precision and recall of the words, without pictures."""
        (one,) = suggestions.found
        word = next(word for word in KINDS[concept.kind] if word.name == concept.name)
        vocabulary = set(self._vocabulary)
        suggested = [found.word for found in one.synonyms]
        near = {found.word for found in one.neighbours}
        return Outcome(
            concept.name,
            Rate.of(_belongs(text, word) for text in suggested),
            Rate.of(text in suggested for text in word.all[1:] if text in vocabulary),
            Rate.of(text in near for text in [concept.neighbour] if text in vocabulary),
            one.target.word if one.target else "",
            1 + len(suggested),
        )

    def shares(self, concept: Concept, eraser: Any) -> tuple[float, float]:
        """The largest share of a concept in its held-out synonyms, before and after the erasure."""
        word = next(word for word in KINDS[concept.kind] if word.name == concept.name)
        own, unseen = self._tokens([concept.name])[0], self._tokens(word.held_out)
        before = self._space.standing(unseen, own).share
        after = self._space.standing(unseen, own, eraser.transforms["text"]).share
        return float(before.max()), float(after.max())

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        from rece_pack.nodes.host.jobs.encode_words import word_tokens

        with torch.inference_mode():
            return torch.stack([word_tokens(self._session, text) for text in texts])

    def pictures(self, concept: Concept, eraser: Any) -> dict[str, Any]:
        """What pictures show before and after."""
        found = trials(concept, self._count, self._count)
        groups = {"held_out": found.held_out, "neighbours": found.neighbours, "others": found.others}
        erased = self._bench.with_erasers(eraser)
        rates = {}
        for name, captions in groups.items():
            for suffix, model in (("_before", self._bench.pocket.model), ("", erased)):
                rates[name + suffix] = self._rate(concept, name, captions, model)
        return rates

    def _rate(self, concept: Concept, name: str, captions: Sequence[Caption], model: Any) -> Rate:
        seen = classify(self._bench.pictures(model, captions))
        return made(concept, seen) if name == "held_out" else kept(captions, seen)


def _belongs(text: str, word: Word) -> bool:
    """Whether a word of the vocabulary is one of the word's synonyms, or part of one."""
    return any(text == one or text in one.lower() for one in word.all)
