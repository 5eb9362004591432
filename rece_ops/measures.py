"""Numbers that say what an erasure did, all in the metric of the model's own outputs.

For token rows x the norm is ‖x‖_G = √(Σ_t x_tᵀ G x_t) = √(Σ_l Σ_t ‖W_l x_t‖²), with G of the original
projections: how far the outputs of all projections together are apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from .derivation import Derivation, RegularizedGram
from .eraser import Eraser
from .gram import check_projection
from .linalg import WARN_CONDITION, to_float64
from .pairs import ConceptPair, Contrast, wanted_outputs
from .projection import ProjectionSettings
from .settings import DEFAULT_SETTINGS, RECESettings

# Found with benchmarks/drift_calibration.py: where the outputs of neutral prompts change by about half, their
# pictures are as far from what they were as another prompt's picture; beyond a change of one they are noise.
VISIBLE_DRIFT = 0.5
RUINOUS_DRIFT = 1.0
# A concept whose outputs stay closer to their old place than to the target is still there.
HIGH_RESIDUAL = 0.5

_PAIRS_AT_ONCE = 16


class Erased(Protocol):
    """What can be measured: an `Erasure`, a `Projection`, or a `GivenErasure`."""

    @property
    def eraser(self) -> Eraser: ...

    @property
    def gram(self) -> Tensor: ...

    @property
    def pairs(self) -> tuple[ConceptPair, ...]: ...

    @property
    def wanted(self) -> tuple[ConceptPair, ...]:
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
class GivenErasure:
    """An eraser that was made elsewhere, to be measured on a model and concepts.

    Attributes:
        eraser: T.
        gram: G [d, d] of the model's projections, float64.
        pairs: what it should have erased.
        settings: λ_r of the derivation is read from it.
        contrasts: what a projection removed the concepts' difference from.
    """

    eraser: Eraser
    gram: Tensor
    pairs: tuple[ConceptPair, ...]
    settings: RECESettings | ProjectionSettings = DEFAULT_SETTINGS
    contrasts: tuple[Contrast, ...] = ()

    @property
    def wanted(self) -> tuple[ConceptPair, ...]:
        """Each concept beside what it should have become."""
        return wanted_outputs(self.pairs, self.contrasts)

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
        neutral_drift: the same for prompts that nobody preserved and that have nothing to do with the concepts.
        total_change: √(Σ_l ‖W_l' − W_l‖² / Σ_l ‖W_l‖²).
        conditions: condition number of each solve, by name.
        warnings: sentences that name the setting to change; empty if all is well.
    """

    concepts: tuple[ConceptMeasures, ...]
    drift: Mapping[str, float]
    neutral_drift: Mapping[str, float]
    total_change: float
    conditions: Mapping[str, float]
    warnings: tuple[str, ...]


def measure(
    erasure: Erased,
    preserved: Mapping[str, Tensor],
    neutral: Mapping[str, Tensor] = MappingProxyType({}),
    on_step: Callable[[], None] | None = None,
) -> Measures:
    """All measures of `erasure`.

    Args:
        erasure: what to measure.
        preserved: token embeddings [n, d] of the preserved prompts, by name.
        neutral: of prompts that were not preserved and have nothing to do with the concepts.
        on_step: called between the parts; may raise to cancel.
    """
    step = on_step or (lambda: None)
    gram, pairs = erasure.gram, erasure.pairs
    gap = _gaps(gram, pairs, step)
    regeneration = [concept_regenerations(erasure, eraser, gap, step) for eraser in erasure.erasers()]
    residual = residuals(gram, erasure.eraser, erasure.wanted, step)
    distance = _ratios(gap, _energies(gram, pairs, ConceptPair.all_rows, lambda c, t: c, step))
    concepts = tuple(
        ConceptMeasures(pair.name, residual[i], tuple(values[i] for values in regeneration), distance[i])
        for i, pair in enumerate(pairs)
    )
    drifts, neutral_drifts = (
        {name: drift(gram, erasure.eraser, tokens) for name, tokens in prompts.items()}
        for prompts in (preserved, neutral)
    )
    change = total_change(gram, erasure.eraser)
    warnings = _warnings(erasure, concepts, {**drifts, **neutral_drifts})
    return Measures(concepts, drifts, neutral_drifts, change, erasure.conditions, warnings)


def worst(measures: Mapping[str, Measures]) -> Measures:
    """Of every number the worst that any text stream has; those of a single stream as they are.

    A concept that comes from several streams is one concept here. Condition numbers and warnings are named after their
    streams.

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
        neutral_drift=_largest([one.neutral_drift for one in measures.values()]),
        total_change=max(one.total_change for one in measures.values()),
        conditions={
            f"{name}: {solve}": number for name, one in measures.items() for solve, number in one.conditions.items()
        },
        warnings=tuple(f"{name}: {sentence}" for name, one in measures.items() for sentence in one.warnings),
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


def measure_steps(pairs: int, epochs: int) -> int:
    """How often `measure` calls `on_step` for an erasure of that many pairs and epochs."""
    passes = epochs + 1 + 4
    return passes * -(-pairs // _PAIRS_AT_ONCE)


def residuals(
    gram: Tensor, eraser: Eraser, pairs: Sequence[ConceptPair], step: Callable[[], None] = lambda: None
) -> list[float]:
    """‖T c − c*‖_G / ‖c − c*‖_G over the subject tokens, per concept; 0 where concept and target are the same."""
    eraser = eraser.to(gram.device, gram.dtype)
    left = _energies(gram, pairs, ConceptPair.subject_rows, lambda c, t: eraser.apply_to_context(c) - t, step)
    whole = _energies(gram, pairs, ConceptPair.subject_rows, lambda c, t: c - t, step)
    return _ratios(left, whole)


def concept_regenerations(
    erasure: Erased, eraser: Eraser, gap: Tensor | None = None, step: Callable[[], None] = lambda: None
) -> list[float]:
    """max(0, 1 − ‖T c' − c‖_G / ‖c* − c‖_G) over all tokens, per concept, c' derived from W·T.

    Args:
        erasure: gives G, the concepts and λ_r.
        eraser: T, one of `erasure.erasers()`.
        gap: ‖c* − c‖²_G of each pair, which is the same for every T; computed where it is not given.
        step: called between the parts; may raise to cancel.
    """
    gram, pairs = erasure.gram, erasure.pairs
    derivation = Derivation.of_eraser(RegularizedGram(gram, erasure.settings.regularization), eraser)
    transform = eraser.to(gram.device, gram.dtype)
    missed = _energies(
        gram, pairs, ConceptPair.all_rows, lambda c, t: transform.apply_to_context(derivation.rows(c)) - c, step
    )
    return [max(0.0, 1.0 - ratio) for ratio in _ratios(missed, _gaps(gram, pairs, step) if gap is None else gap)]


def _gaps(gram: Tensor, pairs: Sequence[ConceptPair], step: Callable[[], None]) -> Tensor:
    return _energies(gram, pairs, ConceptPair.all_rows, lambda c, t: c - t, step)


def drift(gram: Tensor, eraser: Eraser, tokens: Tensor) -> float:
    """‖(T − I) p‖_G / ‖p‖_G of a prompt's token embeddings [n, d]."""
    rows = to_float64(tokens, gram.device)
    moved = eraser.to(gram.device, gram.dtype).apply_to_context(rows) - rows
    energies = [float(((x @ gram) * x).sum().clamp(min=0)) for x in (moved, rows)]
    return _ratio(energies[0] ** 0.5, energies[1] ** 0.5)


def total_change(gram: Tensor, eraser: Eraser) -> float:
    """√(tr((T−I)ᵀ G (T−I)) / tr G) = √(Σ_l ‖W_l' − W_l‖² / Σ_l ‖W_l‖²)."""
    left, right = eraser.to(gram.device, gram.dtype).factors()
    inner = left.T @ gram @ left
    energy = inner.diagonal().sum() if right is None else (inner * (right @ right.T)).sum()
    return float((energy.clamp(min=0) / gram.diagonal().sum()).sqrt())


def relative_changes(
    projections: Mapping[str, Tensor], eraser: Eraser, on_projection: Callable[[str], None] | None = None
) -> dict[str, float]:
    """‖W' − W‖ / ‖W‖ (Frobenius) of every projection, read one at a time."""
    changes = {}
    for name in projections:
        weight = projections[name]
        check_projection(name, weight, eraser.dimension)
        weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
        left, right = eraser.to(weight.device, weight.dtype).factors()
        moved = weight @ left if right is None else (weight @ left) @ right
        changes[name] = _ratio(float(torch.linalg.matrix_norm(moved)), float(torch.linalg.matrix_norm(weight)))
        if on_projection is not None:
            on_projection(name)
    return changes


def _energies(
    gram: Tensor,
    pairs: Sequence[ConceptPair],
    rows_of: Callable[[ConceptPair], tuple[Tensor, Tensor]],
    vector: Callable[[Tensor, Tensor], Tensor],
    step: Callable[[], None],
) -> Tensor:
    """‖vector(c, c*)‖²_G summed over the token rows of each pair: [pairs], many pairs to a product."""
    found = []
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        rows = [rows_of(pair) for pair in pairs[start : start + _PAIRS_AT_ONCE]]
        vectors = vector(*(to_float64(torch.cat(side), gram.device) for side in zip(*rows, strict=True)))
        energy = ((vectors @ gram) * vectors).sum(dim=1)
        found += [part.sum() for part in torch.split(energy, [concept.shape[0] for concept, _ in rows])]
        step()
    return torch.stack(found).clamp(min=0)


def _ratios(part: Tensor, whole: Tensor) -> list[float]:
    return torch.where(whole > 0, (part / whole).sqrt(), 0.0).tolist()


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0


def _warnings(erasure: Erased, concepts: Sequence[ConceptMeasures], drifts: Mapping[str, float]) -> tuple[str, ...]:
    """What a person should know before trusting the result, and which setting to change."""
    found = []
    if drifts:
        name = max(drifts, key=drifts.__getitem__)
        if drifts[name] > VISIBLE_DRIFT:
            ruined = "will come out blank or noisy" if drifts[name] > RUINOUS_DRIFT else "will visibly change"
            found.append(
                f"Pictures of prompts that should stay {ruined}: the outputs of '{name}' change by {drifts[name]:.0%}. "
                f"{erasure.settings.MILDER}, or preserve prompts like it."
            )
    left = [concept for concept in concepts if concept.residual > HIGH_RESIDUAL]
    if left:
        worst = max(left, key=lambda concept: concept.residual)
        found.append(
            f"{len(left)} of {len(concepts)} concepts are still there: '{worst.name}' keeps {worst.residual:.0%} of its "
            f"way from the target. {erasure.settings.STRONGER}."
        )
    for name, condition in erasure.conditions.items():
        if condition > WARN_CONDITION:
            found.append(
                f"The {name} is ill-conditioned (condition number {condition:.1e}): its result is only roughly right. "
                "Raise 'edit_regularization' or 'regularization'."
            )
    return tuple(found)
