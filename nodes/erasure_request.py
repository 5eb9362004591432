"""What a person asked the main node for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..rece_ops import Limits, ProjectionSettings, Provenance, RECESettings, __version__
from ..rece_ops.provenance import cleaned
from .concept_lines import ConceptLine
from .everyday_prompts import CONTEXTS, SPARED
from .templates import TEMPLATES, widened

EMPTY = ""
NO_LIMITS = Limits()


@dataclass(frozen=True)
class ErasureRequest:
    """What a person asked for.

    Attributes:
        concepts: what to erase.
        preserved: prompts whose outputs shall stay; the empty prompt is always among them.
        settings: of RECE (UCE: no epochs) or of the projection.
        templates: name of the templates that widen each concept.
        exactly: whether the preserved prompts (and the empty one) must not move at all.
        limits: of RECE's iteration.
        embeddings: prompts to erase besides, as token embeddings [1, n, d] with the values of their CONDITIONING, towards
            the target of the first concept.
        pooled: whether to erase from the pooled embedding too, where the model reads one.
    """

    concepts: Sequence[ConceptLine]
    preserved: Sequence[str]
    settings: RECESettings | ProjectionSettings
    templates: str
    exactly: bool = False
    limits: Limits = NO_LIMITS
    embeddings: Sequence[tuple[Tensor, dict[str, Any]]] = ()
    pooled: bool = True

    @property
    def method(self) -> str:
        """As reports and eraser files call it."""
        if isinstance(self.settings, ProjectionSettings):
            return "projection"
        return "RECE" if self.settings.epochs else "UCE"

    @property
    def epochs(self) -> int:
        """Derive-and-erase steps, at most."""
        return self.settings.epochs if isinstance(self.settings, RECESettings) else 0

    @property
    def spared(self) -> tuple[str, ...]:
        """The everyday prompts that the method wants to know."""
        return SPARED if self.method == "projection" else ()

    @property
    def contexts(self) -> tuple[str, ...]:
        """The templates, '{}' for the concept, in which the method compares concepts with other words."""
        if self.method != "projection":
            return ()
        return ("{}", *TEMPLATES[self.templates]) if TEMPLATES[self.templates] else CONTEXTS

    def prompts(self) -> list[tuple[ConceptLine, str]]:
        """Every prompt to erase, with the line it stands for."""
        return [(line, prompt) for line in self.concepts for prompt in widened(line.concept, self.templates)]

    def provenance(
        self,
        settings: Mapping[str, RECESettings | ProjectionSettings],
        architecture: str,
        dimensions: Mapping[str, int],
        fronts: Sequence[str],
    ) -> Provenance:
        """What an eraser file tells of its making: no paths, no names of people or machines.

        Args:
            settings: that each text stream was erased with; where a limit was kept, they can differ.
            architecture: what the eraser was made on.
            dimensions: of the text streams, by name.
            fronts: the text streams that reach the projections through a norm or a network.
        """
        plain = {name: one.as_dict() for name, one in settings.items()}
        same = len(set(settings.values())) == 1
        return Provenance(
            method=self.method,
            concepts=tuple(cleaned(line.concept) for line in self.concepts),
            targets=tuple(cleaned(line.target) for line in self.concepts),
            weights=tuple(line.weight for line in self.concepts),
            embeddings=len(self.embeddings),
            preserve=tuple(map(cleaned, self.preserved)),
            templates=self.templates,
            preserve_exactly=self.exactly,
            settings=next(iter(plain.values())) if same else plain,
            architecture=architecture,
            dimensions=dimensions,
            fronts=tuple(fronts),
            pack_version=__version__,
        )
