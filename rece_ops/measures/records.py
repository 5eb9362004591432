"""What can be measured, and the numbers that come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..eraser import Eraser
from ..methods.projection import ProjectionSettings
from ..pairs import ConceptPair, Contrast, intended_outputs
from ..settings import DEFAULT_SETTINGS, RECESettings


class Erased(Protocol):
    """What can be measured: an `Erasure`, a `Projection`, or an `ExistingErasure`."""

    @property
    def eraser(self) -> Eraser: ...

    @property
    def gram(self) -> Tensor: ...

    @property
    def pairs(self) -> tuple[ConceptPair, ...]: ...

    @property
    def intended(self) -> tuple[ConceptPair, ...]:
        """Each of `pairs` as what it should have become an output of: its target, or other words in its place."""
        ...

    @property
    def settings(self) -> RECESettings | ProjectionSettings: ...

    @property
    def conditions(self) -> Mapping[str, float]: ...

    def erasers(self) -> tuple[Eraser, ...]:
        """All erasers on the way, the finished one last."""
        ...


@dataclass(frozen=True, eq=False)
class ExistingErasure:
    """An eraser that was made elsewhere, to be measured on a model and concepts.

    Attributes:
        eraser: T.
        gram: G [d, d] of the model's key and value weights, float64.
        pairs: what it should have erased.
        settings: λ_r of the derivation is read from it.
        contrasts: what a projection compared the concepts with.
    """

    eraser: Eraser
    gram: Tensor
    pairs: tuple[ConceptPair, ...]
    settings: RECESettings | ProjectionSettings = DEFAULT_SETTINGS
    contrasts: tuple[Contrast, ...] = ()

    @property
    def intended(self) -> tuple[ConceptPair, ...]:
        """Each concept, paired with what it should have become."""
        return intended_outputs(self.pairs, self.contrasts)

    @property
    def conditions(self) -> Mapping[str, float]:
        """Nothing was solved here."""
        return {}

    def erasers(self) -> tuple[Eraser, ...]:
        """The one eraser that there is."""
        return (self.eraser,)


@dataclass(frozen=True)
class ConceptMeasures:
    """One concept after an erasure.

    Attributes:
        name: the concept.
        residual: ‖T c − c*‖_G / ‖c − c*‖_G over the subject tokens: the share of the way from target back to
            concept that is left; 1 before an erasure, 0 where the concept gives exactly the target's output. A
            projection compares a concept with other words in its place: without a target, they are c*.
        regeneration: per eraser (first edit, epoch 1, …): max(0, 1 − ‖T c' − c‖_G / ‖c* − c‖_G) over all
            tokens, c' being the derived embedding: 1 where some embedding brings the concept's outputs back
            fully, 0 where none comes closer than the target does.
        distance: ‖c − c*‖_G / ‖c‖_G over all tokens: how far concept and target were apart at first.
    """

    name: str
    residual: float
    regeneration: tuple[float, ...]
    distance: float


@dataclass(frozen=True)
class Measures:
    """Everything worth telling about an erasure.

    Attributes:
        concepts: one record per concept.
        drift: by preserved prompt, ‖(T − I) p‖_G / ‖p‖_G: relative change of its outputs.
        held_out_drift: the same for prompts that nobody preserved and that have nothing to do with the concepts.
        total_change: √(Σ_l ‖W_l' − W_l‖² / Σ_l ‖W_l‖²).
        conditions: condition number of each solve, by name.
    """

    concepts: tuple[ConceptMeasures, ...]
    drift: Mapping[str, float]
    held_out_drift: Mapping[str, float]
    total_change: float
    conditions: Mapping[str, float]


def worst_case(measures: Mapping[str, Measures]) -> Measures:
    """Of every number the worst that any text stream has; those of a single stream as they are.

    A concept that comes from several streams is one concept here. Condition numbers are named after their streams.

    Args:
        measures: by the stream's name; at least one.
    """
    if len(measures) == 1:
        (only,) = measures.values()
        return only
    concepts: dict[str, ConceptMeasures] = {}
    for one in measures.values():
        for concept in one.concepts:
            known = concepts.get(concept.name)
            concepts[concept.name] = concept if known is None else _worse(known, concept)
    return Measures(
        concepts=tuple(concepts.values()),
        drift=_largest([one.drift for one in measures.values()]),
        held_out_drift=_largest([one.held_out_drift for one in measures.values()]),
        total_change=max(one.total_change for one in measures.values()),
        conditions={
            f"{name}: {solve}": number for name, one in measures.items() for solve, number in one.conditions.items()
        },
    )


def _worse(one: ConceptMeasures, other: ConceptMeasures) -> ConceptMeasures:
    # Where a limit stopped one of the two earlier, its last epoch stands for the later ones.
    length = max(len(one.regeneration), len(other.regeneration))
    paths = [path + path[-1:] * (length - len(path)) for path in (one.regeneration, other.regeneration)]
    return ConceptMeasures(
        one.name,
        max(one.residual, other.residual),
        tuple(max(pair) for pair in zip(*paths, strict=True)),
        min(one.distance, other.distance),
    )


def _largest(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: max(part[name] for part in parts) for name in parts[0]}
