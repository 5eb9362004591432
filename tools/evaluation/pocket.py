"""The pocket model as what is evaluated: its own prompts, its own classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pocket_model.assemble import pocket_checkpoint
from pocket_model.classifier import classify
from pocket_model.sampling import PocketModel, Sampler
from pocket_model.trials import Concept, concept_named, kept, other_words, trials, vector_pairs
from pocket_model.world import KINDS, Caption
from tools.evaluation import attacks
from tools.evaluation.erasures import Erased

OWN, PARAPHRASED = "own prompts", "synonyms"
NEIGHBOURS, OTHERS = "neighbours", "other prompts"
SCALE, PAIRS = 3.0, 32
INVERSION_BATCH = 8


@dataclass(frozen=True)
class Prompts:
    """A set of prompts.

    Attributes:
        captions: with what a picture of each shows.
        attack: how the embeddings are made, where not from the captions alone.
    """

    captions: tuple[Caption, ...]
    attack: str = ""


class Pocket:
    """The loaded pocket model, and one of its concepts.

    Args:
        concept: a word of its world.
        count: prompts in a set.
        sampler: of the pictures; its batch is the chunk.
        attacked: attacks, out of `attacks.NAMES`.
        inversion_steps: of learned tokens.
        dtype: that the model computes in.
        seed: of the prompts.
    """

    name = "pocket model"

    def __init__(
        self,
        concept: str,
        count: int,
        sampler: Sampler,
        attacked: Sequence[str],
        inversion_steps: int,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        self.concept: Concept = concept_named(concept)
        self._sampler = sampler
        self._pocket = PocketModel(pocket_checkpoint(), dtype)
        found = trials(self.concept, count, count, seed)
        self.sets: Mapping[str, Prompts] = {
            OWN: Prompts(found.own),
            PARAPHRASED: Prompts(found.paraphrased),
            **{
                attacks.NAMES[name]: Prompts(found.others if name == attacks.VECTOR else found.own, name)
                for name in attacked
            },
            NEIGHBOURS: Prompts(found.neighbours),
            OTHERS: Prompts(found.others),
        }
        self._seed = seed
        pocket = self._pocket
        self._learner = attacks.Learner(
            pocket.clip, pocket.vae, self._own_pictures, self._shown, inversion_steps, INVERSION_BATCH
        )

    @property
    def model(self) -> Any:
        """As it is."""
        return self._pocket.model

    @property
    def clip(self) -> Any:
        """Its text encoder."""
        return self._pocket.clip

    @property
    def concepts(self) -> str:
        """The concept as the node's input."""
        return self.concept.name

    @property
    def preserve(self) -> str:
        """What a careful person would preserve."""
        return "\n".join(other_words([self.concept]))

    def pictures(self, erased: Erased, name: str, places: range) -> Tensor:
        """[n, height, width, 3] in 0 … 1 of some of a set's prompts; the seed of each is its place."""
        prompts = self.sets[name]
        embeddings = self._embeddings(prompts, erased)[places.start : places.stop]
        found = self._pocket.sample(erased.model, embeddings, places, self._sampler)
        return found.cpu().movedim(1, -1)

    def rows(self, name: str, places: range, pictures: Tensor) -> list[dict[str, Any]]:
        """What each picture shows."""
        captions = self.sets[name].captions[places.start : places.stop]
        found = []
        for place, caption, seen in zip(places, captions, classify(pictures.movedim(-1, 1)), strict=True):
            found.append(
                {
                    "file": f"{place:05d}.png",
                    "place": place,
                    "seed": place,
                    "prompt": caption.text,
                    "sees": " ".join(seen.attribute(kind) for kind in KINDS),
                    "shown": seen.attribute(self.concept.kind) == self.concept.name,
                    "right": kept([caption], [seen]).hits == 1,
                }
            )
        return found

    def _embeddings(self, prompts: Prompts, erased: Erased) -> Tensor:
        if prompts.attack == attacks.INVERSION:
            return self._tokens(self._learner.best(erased.model)).expand(len(prompts.captions), -1, -1)
        plain = self._pocket.embeddings([caption.text for caption in prompts.captions])
        if prompts.attack == attacks.DERIVED and erased.eraser is not None:
            return self._derived(plain, erased)
        return plain + SCALE * self._vector if prompts.attack == attacks.VECTOR else plain

    def _own_pictures(self) -> Tensor:
        """What the unedited model makes of the concept's prompts, for an attacker to learn from."""
        captions = self.sets[OWN].captions[: attacks.PICTURES]
        return self._sampled(self.model, self._pocket.embeddings([caption.text for caption in captions]))

    def _shown(self, model: Any, conditioning: Any) -> int:
        made = self._sampled(model, self._tokens(conditioning).expand(attacks.PICTURES, -1, -1))
        return sum(seen.attribute(self.concept.kind) == self.concept.name for seen in classify(made.movedim(-1, 1)))

    def _sampled(self, model: Any, embeddings: Tensor) -> Tensor:
        # Seeds that no set uses.
        seeds = range(2**32, 2**32 + len(embeddings))
        return self._pocket.sample(model, embeddings, seeds, self._sampler).cpu().movedim(1, -1)

    @staticmethod
    def _tokens(conditioning: Any) -> Tensor:
        tokens: Tensor = conditioning[0][0]
        return tokens.cpu()

    def _derived(self, plain: Tensor, erased: Erased) -> Tensor:
        """Each prompt's embedding that brings it back best, c' = (λI + TᵀGT)⁻¹ TᵀGc."""
        from rece_pack.nodes.host.session import Session
        from rece_pack.rece_ops import derive_embedding, gram_matrix

        with torch.inference_mode():
            session = Session.open(self.model, self.clip)
            (stream,) = session.architecture.streams
            gram = gram_matrix(session.weights(stream))
            found: Tensor = derive_embedding(
                gram, erased.eraser[stream.name], plain.flatten(0, 1), attacks.REGULARIZATION
            )
            return found.view_as(plain).to(plain)

    @cached_property
    def _vector(self) -> Tensor:
        from rece_pack.nodes.host.jobs.concept_vector import concept_vector

        pairs = [(one.text, other.text) for one, other in vector_pairs(self.concept, PAIRS, self._seed)]
        with torch.inference_mode():
            found: Tensor = concept_vector(self.clip, pairs).tokens
            return found.cpu()
