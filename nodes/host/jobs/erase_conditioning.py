"""An ERASER on CONDITIONING: W·(T·c) = (W·T)·c, wherever nothing comes between the tokens and the text readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ....rece_ops import POOLED_STREAM, Eraser, EraserSet
from ....rece_ops.eraser import TEXT_STREAM
from ....rece_ops.settings import check_strength
from ....rece_ops.texts import QUOTED, printable
from ..architectures.places import check_unshaped
from ..architectures.sources import POOLED, TokenSlot
from ..architectures.table import FAMILIES, StreamRow
from ..errors import WrongConnectionError
from ..patching.forwards import Transform
from ..text.conditioning import Conditioning

_REMEDY = "encode the prompt with the CLIP that belongs to the model"


def erase_conditioning(conditioning: Conditioning | None, eraser: EraserSet, strength: float) -> Conditioning:
    """CONDITIONING as a MODEL with `eraser` would read it; the one given is not changed.

    Args:
        conditioning: token embeddings [b, n, d] with their values.
        eraser: its stream `pooled` is for the first columns of the pooled output [b, p], where an entry has one.
        strength: 0 changes nothing, 1 is the whole erasure.

    Raises:
        InputError: the strength is not finite.
        NotFiniteError: what comes out is not finite.
        WrongConnectionError: there is no CONDITIONING, it belongs to another architecture than the eraser, or the eraser's
            architecture does more to the tokens before it reads them.
    """
    check_strength(strength)
    if eraser.has_other_parts:
        raise WrongConnectionError(
            "This ERASER also changes the model elsewhere than where it reads the text, which no CONDITIONING can hold: use 'Apply "
            "Eraser' on the MODEL instead."
        )
    check_unshaped(eraser)
    if not conditioning:
        raise WrongConnectionError("CONDITIONING is None or empty: connect the output of a text-encoding node.")
    slots = _slots(eraser)
    for embedding, values in conditioning:
        _check(embedding, values, eraser, slots)
    transforms = {name: Transform(one.scaled(strength)) for name, one in eraser.transforms.items()}
    return [_erased(embedding, values, transforms, slots) for embedding, values in conditioning]


def _slots(eraser: EraserSet) -> Mapping[str, Sequence[TokenSlot]]:
    """Where every text stream of the eraser comes from, except the pooled one."""
    names = [name for name in eraser.transforms if name != POOLED_STREAM]
    rows = {row.name: row for row in _rows(eraser, names) if not row.pooled}
    if set(rows) != set(names):
        raise WrongConnectionError(
            f"This ERASER has the text streams {printable(', '.join(names)) or 'none'}, but {_made_for(eraser)} has "
            f"{', '.join(rows)}: use an eraser that was made on the same base."
        )
    for row in rows.values():
        _check_stage(eraser, row)
    return {name: list(dict.fromkeys(source.slot for source in rows[name].sources)) for name in names}


def _rows(eraser: EraserSet, names: Sequence[str]) -> Sequence[StreamRow]:
    """The eraser's streams in the table of architectures."""
    architecture = eraser.provenance.architecture
    for family in FAMILIES:
        if family.name == architecture:
            return family.streams_named(names)
    if architecture is None and names == [TEXT_STREAM]:
        return (StreamRow(readers=()),)
    raise WrongConnectionError(
        f"This ERASER was made for {_made_for(eraser)}, so it is not known where CONDITIONING holds what it is for: use "
        "'Apply Eraser' on the MODEL instead."
    )


def _check_stage(eraser: EraserSet, row: StreamRow) -> None:
    """Raise WrongConnectionError where a norm or a network lies between the tokens and the text readers."""
    # Some models of an architecture have a norm and some have not. All but the oldest erasers say which it was.
    recorded = eraser.provenance.fronts
    behind = row.name in recorded if recorded is not None else any(source.stage for source in row.sources)
    if behind:
        raise WrongConnectionError(
            f"{_made_for(eraser)} reads the text through a norm or a network that comes before the text readers, so that "
            "this ERASER cannot be applied to CONDITIONING: use 'Apply Eraser' on the MODEL instead."
        )


def _check(
    embedding: Tensor, values: Mapping[str, Any], eraser: EraserSet, slots: Mapping[str, Sequence[TokenSlot]]
) -> None:
    """Raise WrongConnectionError unless an entry holds what the eraser is for."""
    for name, found in slots.items():
        for slot in found:
            tokens = slot.held_in(embedding, values)
            _check_tokens(tokens, slot, eraser, eraser.transforms[name])
    pooled = values.get(POOLED)
    transform = eraser.transforms.get(POOLED_STREAM)
    if transform is not None and pooled is not None and pooled.shape[-1] < transform.dimension:
        raise WrongConnectionError(
            f"The pooled output of CONDITIONING has {pooled.shape[-1]} numbers, but this ERASER ({_made_for(eraser)}) is for "
            f"{transform.dimension}: {_REMEDY}."
        )


def _check_tokens(tokens: Any, slot: TokenSlot, eraser: EraserSet, stream: Eraser) -> None:
    if not isinstance(tokens, Tensor):
        raise WrongConnectionError(
            f"CONDITIONING has no '{slot.key or 'token embeddings'}', which {_made_for(eraser)} reads: {_REMEDY}."
        )
    if tokens.shape[-1] != stream.dimension:
        raise WrongConnectionError(
            f"CONDITIONING holds text embeddings of dimension {tokens.shape[-1]}, but this ERASER ({_made_for(eraser)}) is "
            f"for {stream.dimension}: {_REMEDY}."
        )
    if slot.layer is not None and (tokens.ndim != 4 or tokens.shape[1] <= slot.layer):
        raise WrongConnectionError(
            f"'{slot.key}' of CONDITIONING is {list(tokens.shape)}, which has no layer {slot.layer} in [batch, layers, "
            f"tokens, dimension]: {_REMEDY}."
        )


def _erased(
    embedding: Tensor,
    values: dict[str, Any],
    transforms: Mapping[str, Transform],
    slots: Mapping[str, Sequence[TokenSlot]],
) -> list[Any]:
    changed: dict[str, Tensor] = {}
    for name, found in slots.items():
        for slot in found:
            held = changed.get(slot.key, slot.held_in(embedding, values))
            changed[slot.key] = _with_erased(held, slot, transforms[name])
    if POOLED_STREAM in transforms and values.get(POOLED) is not None:
        changed[POOLED] = transforms[POOLED_STREAM].of_tokens(values[POOLED])
    return [changed.pop("", embedding), {**values, **changed}]


def _with_erased(held: Tensor, slot: TokenSlot, transform: Transform) -> Tensor:
    if slot.layer is None:
        return transform.of_tokens(held)
    changed = held.clone()
    slot.of_batch(changed)[:] = transform.of_tokens(slot.of_batch(held))
    return changed


def _made_for(eraser: EraserSet) -> str:
    return printable(eraser.provenance.architecture or "a model that it does not name", QUOTED)
