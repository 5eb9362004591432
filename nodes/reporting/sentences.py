"""Reports as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ...rece_ops import POOLED_STREAM, ConceptMeasures, Eraser, EraserSet, Measures, Provenance
from ...rece_ops.formats.eraser_file import EraserHeader
from ...rece_ops.texts import QUOTED, printable, quoted
from ..host.jobs.assess import Assessment
from ..host.jobs.erase import ErasureResult
from ..request.concept_lines import ConceptLine, text_key
from ..request.erasure_request import ErasureRequest
from ..request.methods import METHODS, Plan
from .verdict import Verdict, verdict
from .warnings import notes, warnings

_MOST_CONCEPTS = 40
_DEEPEST = 8


def erasure_report(request: ErasureRequest, result: ErasureResult, strength: float) -> str:
    """The long report: everything a person would ask about afterwards."""
    parts = [
        _headline(request, result, strength),
        str(erasure_verdict(request, result)),
        *upstream_lines(result.upstream),
        _concepts(result.measures.concepts),
        _preserved(result.measures),
    ]
    parts += [
        _weights(result.changes, result.measures.total_change),
        _solves(result.measures.conditions),
        _known_gaps(result),
    ]
    parts += _remarks(request, result)
    return "\n".join(part for part in parts if part)


def erasure_verdict(request: ErasureRequest, result: ErasureResult) -> Verdict:
    """What to see first of an erasure."""
    untargeted = [text_key(line.concept) for line in request.concepts if not line.target]
    return verdict(
        result.measures, request.plan.method.advice.remedies, _erased_before(result.upstream), untargeted=untargeted
    )


def erasure_summary(request: ErasureRequest, result: ErasureResult) -> str:
    """The few lines shown on the node, after the verdict."""
    concepts, before = result.measures.concepts, _erased_before(result.upstream)
    lines = upstream_lines(result.upstream)
    lines += [
        f"{printable(concept.name)}: "
        + (
            "already erased in the model that came in"
            if text_key(concept.name) in before
            else f"{concept.residual:.0%} left, derived embedding brings back {concept.regeneration[-1]:.0%}"
        )
        for concept in concepts[:5]
    ]
    if len(concepts) > 5:
        lines.append(f"… and {len(concepts) - 5} more")
    lines.append(f"weights changed by {result.measures.total_change:.0%}, in {result.seconds:.1f} s")
    lines += _remarks(request, result)
    return "\n".join(lines)


def measured_lines(assessment: Assessment, plan: Plan) -> list[str]:
    """What an erasure report says after its verdict."""
    measures = assessment.measures
    return [
        _concepts(measures.concepts),
        _preserved(measures),
        _weights(assessment.changes, measures.total_change),
        *_warnings(measures, plan),
    ]


def measured_against(lines: Sequence[ConceptLine]) -> str:
    """Which target every concept was measured against."""
    return f"Measured against their targets: {_some([_arrow(line.concept, line.target) for line in lines])}."


def upstream_lines(upstream: Sequence[Provenance]) -> list[str]:
    """That something was erased from the MODEL before, and by what."""
    if not upstream:
        return []
    made = _some([_made_from(told).removesuffix(".") for told in upstream], "; then ")
    return [
        f"Warning: The model that came in is already erased from ({made}). What it erased cannot be measured again: connect "
        "the model before it to measure everything."
    ]


def eraser_description(eraser: EraserSet) -> str:
    """What an ERASER is, from its provenance and its tensors, and what its file gives to note."""
    lines = [_made_from(eraser.provenance)]
    for name, part in list(eraser.items())[:_MOST_CONCEPTS]:
        what = "Text stream" if isinstance(part, Eraser) else part.kind.capitalize()
        lines.append(f"{what} {quoted(name)}: {part.describe()}.")
    if len(eraser) > _MOST_CONCEPTS:
        lines.append(f"… and {len(eraser) - _MOST_CONCEPTS} more parts.")
    if not eraser.shape.is_whole:
        lines.append(f"Counts only in part: {eraser.shape.describe()}.")
    lines += [f"Note: {note}" for note in eraser.notes]
    return "\n".join(lines)


def header_description(header: EraserHeader) -> str:
    """What the header of an eraser file says of it, before its numbers are read."""
    parts = _some([f"{quoted(name)} ({printable(kind)})" for name, kind in header.kinds.items()])
    lines = [
        _made_from(header.provenance),
        f"{len(header.kinds)} part{'s' * (len(header.kinds) > 1)}: {parts}; {_size(header.size)}.",
    ]
    if not header.shape.is_whole:
        lines.append(f"Counts only in part: {header.shape.describe()}.")
    return "\n".join(lines)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.0f} kB"


def unmeasured(eraser: EraserSet) -> list[str]:
    """What of an ERASER the numbers of a report leave out."""
    found = ["Its changes of weights are not in these numbers: look at pictures."] if eraser.changes_weights else []
    return [*found, "Its adapters are not in these numbers: look at pictures."] if eraser.adapters else found


def _made_from(told: Provenance, depth: int = 0) -> str:
    if told.method == "combined":
        parts = () if depth == _DEEPEST else told.parts or ()
        made = [_made_from(part, depth + 1).removesuffix(".") for part in parts]
        return f"Combined, one after the other: {_some(made, '; then ')}."
    pairs = zip(told.concepts or (), told.targets or (), strict=False)
    erased = [_arrow(concept, target) for concept, target in pairs]
    kept = f", preserving {_some([*map(printable, told.preserve)])}" if told.preserve else ""
    scaled = f", at strength {told.strength:g}" if told.strength is not None else ""
    shaped = f", only in part ({printable(told.shape)})" if told.shape is not None else ""
    architecture = printable(told.architecture or "unknown model", QUOTED)
    return (
        f"{_recorded_method(told)} on {architecture}: {_some(erased) or 'no concepts recorded'}{kept}{scaled}{shaped}."
    )


def _arrow(concept: str, target: str) -> str:
    return printable(f"{concept} → {target or '(empty prompt)'}")


def _erased_before(upstream: Iterable[Provenance]) -> set[str]:
    """The concepts that erasures in the MODEL's chain name, by `text_key`."""
    return {text_key(concept) for told in upstream for concept in told.erased()}


def _recorded_method(told: Provenance) -> str:
    """What a file says in quotes, unless it is a method of ours: it begins a line, which the panel may take for a warning."""
    method = told.method or "unknown method"
    return method if method in (*METHODS, "unknown method") else quoted(method)


def _some(texts: Sequence[str], between: str = ", ") -> str:
    """The texts one after the other, as many as a person would read."""
    more = f"{between}… and {len(texts) - _MOST_CONCEPTS} more" if len(texts) > _MOST_CONCEPTS else ""
    return between.join(texts[:_MOST_CONCEPTS]) + more


def _headline(request: ErasureRequest, result: ErasureResult, strength: float) -> str:
    count = len(request.concepts)
    return (
        f"Erased {count} concept{'s' if count > 1 else ''} from this {result.architecture.name} model by "
        f"{request.plan.method.describe([stream.erasure for stream in result.streams.values()])}: "
        f"{len(result.changes)} key and value weights{_in_streams(result)}, {result.seconds:.2f} s on {result.device.type}, "
        f"strength {strength:g}."
    )


def _in_streams(result: ErasureResult) -> str:
    if len(result.streams) == 1:
        return ""
    tokens = [name for name in result.streams if name != POOLED_STREAM]
    where = f" in {len(tokens)} text streams" if len(tokens) > 1 else " in the token embeddings"
    pooled = " and the pooled embedding" if len(tokens) < len(result.streams) else ""
    return f"{where}{pooled} (every number below is that of the worst stream)"


def _remarks(request: ErasureRequest, result: ErasureResult) -> list[str]:
    """How the inputs were read, what was done to keep limits, each sentence once, and the warnings."""
    read = [f"Note: {sentence}" for sentence in (*request.notes, *result.notes)]
    done = dict.fromkeys(sentence for stream in result.streams.values() for sentence in notes(stream.kept))
    left = _without(result.measures, _erased_before(result.upstream))
    return [*read, *done, *_warnings(left, request.plan)]


def _without(measures: Measures, before: set[str]) -> Measures:
    """`measures` without the concepts of which nothing was left to begin with."""
    return replace(measures, concepts=tuple(one for one in measures.concepts if text_key(one.name) not in before))


def _warnings(measures: Measures, plan: Plan) -> list[str]:
    return [f"Warning: {sentence}" for sentence in warnings(measures, plan.method.advice)]


def _concepts(concepts: Sequence[ConceptMeasures]) -> str:
    lines = ["Concepts (residual: what is left, 0 % none; regeneration: how far the derived embedding brings it back):"]
    for concept in concepts[:_MOST_CONCEPTS]:
        path = " → ".join(f"{value:.0%}" for value in concept.regeneration)
        lines.append(f"  {printable(concept.name)}: residual {concept.residual:.1%}, regeneration {path}")
    if len(concepts) > _MOST_CONCEPTS:
        rest = concepts[_MOST_CONCEPTS:]
        worst = max(rest, key=lambda concept: concept.residual)
        lines.append(f"  … and {len(rest)} more, residual at most {worst.residual:.1%} ({printable(worst.name)})")
    return "\n".join(lines)


def _preserved(measures: Measures) -> str:
    lines = ["Drift of prompts that should stay (relative change of their outputs):"]
    lines += [f"  {printable(name) or '(empty prompt)'}: {drift:.1%}" for name, drift in measures.drift.items()]
    lines += [f"  {printable(name)} (not preserved): {drift:.1%}" for name, drift in measures.held_out_drift.items()]
    return "\n".join(lines)


def _weights(changes: Mapping[str, float], total: float) -> str:
    least, most = (pick(changes, key=changes.__getitem__) for pick in (min, max))
    return f"Weights: changed by {total:.1%} in all, {least} least ({changes[least]:.1%}), {most} most ({changes[most]:.1%})."


def _solves(conditions: Mapping[str, float]) -> str:
    listed = ", ".join(f"{name} {condition:.1e}" for name, condition in conditions.items())
    return f"Condition numbers: {listed}."


def _known_gaps(result: ErasureResult) -> str:
    architecture = result.architecture
    left = []
    if architecture.reads_pooled and POOLED_STREAM not in result.streams:
        left.append("its pooled text embedding")
    if architecture.family.leak:
        left.append(architecture.family.leak)
    if not left:
        return ""
    return (
        f"Note: {architecture.name} also reads the text through {' and '.join(left)}, which was left as it is; a concept "
        "can leak through it."
    )
