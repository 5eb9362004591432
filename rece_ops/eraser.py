"""The eraser: one linear map of token embeddings that carries a whole erasure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from .errors import EraserFileError, InputError
from .formats.eraser_file import of_one_stream, read_eraser_file, write_eraser_file
from .formats.parts import TEXT_TRANSFORM, StoredPart
from .linear.finite import check_change
from .provenance import Provenance
from .settings import check_strength
from .texts import printable, quoted

TEXT_STREAM = "text"
# The one token that a text encoder gives for a whole prompt. An ERASER may leave it alone.
POOLED_STREAM = "pooled"


class Factors(NamedTuple):
    """T − I of one stream: `left` [d, r] times `right` [r, d], or `left` [d, d] alone."""

    left: Tensor
    right: Tensor | None


class Eraser:
    """The context transform T = I + left @ right of one text stream, W' = W·T.

    `left` [d, r] and `right` [r, d] are kept thin while that is smaller than the full matrix, else
    T − I is kept dense; the caller need not know. An eraser never changes after it is made, and T is always finite.

    Args:
        left: [d, r], or T − I itself [d, d] when `right` is None.
        right: [r, d] or None.
        metadata: provenance, typed or as plain JSON values.

    Attributes:
        provenance: how it was made.

    Raises:
        InputError: shapes or dtypes do not fit together, T − I is not finite, or the metadata are none that a file may
            have.
    """

    __slots__ = ("_left", "_right", "provenance")

    kind: ClassVar[str] = TEXT_TRANSFORM

    def __init__(
        self, left: Tensor, right: Tensor | None = None, metadata: Mapping[str, Any] | Provenance | None = None
    ) -> None:
        _check_factors(left, right)
        check_change(left, right, "This eraser")
        if right is not None and 2 * left.shape[1] >= left.shape[0]:
            left, right = left @ right, None
            check_change(left, None, "This eraser")
        self._left = left
        self._right = right
        self.provenance = Provenance.of(metadata)

    @classmethod
    def identity(cls, dimension: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Eraser:
        """The eraser that changes nothing (rank 0)."""
        empty = torch.zeros(dimension, 0, dtype=dtype, device=device)
        return cls(empty, empty.T)

    @property
    def metadata(self) -> dict[str, Any]:
        """The provenance as plain JSON values, a copy."""
        return self.provenance.as_dict()

    @property
    def left(self) -> Tensor:
        """[d, r]; with `right`, T − I = left @ right."""
        return self._left

    @property
    def right(self) -> Tensor:
        """[r, d]; the identity where T − I is kept dense."""
        if self._right is not None:
            return self._right
        return torch.eye(self.dimension, dtype=self.dtype, device=self.device)

    @property
    def is_dense(self) -> bool:
        """Whether T − I is kept as one full matrix."""
        return self._right is None

    @property
    def rank(self) -> int:
        """r, an upper bound on the rank of T − I (d where it is kept dense)."""
        return self._left.shape[1]

    @property
    def dimension(self) -> int:
        """d, the size of a token embedding."""
        return self._left.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the factors."""
        return self._left.dtype

    @property
    def device(self) -> torch.device:
        """The device of the factors."""
        return self._left.device

    def factors(self) -> Factors:
        """The stored tensors as they are: (left, right), or (T − I, None)."""
        return Factors(self._left, self._right)

    def matrix(self) -> Tensor:
        """T [d, d], in the dtype of the factors."""
        return self.difference().add(torch.eye(self.dimension, dtype=self.dtype, device=self.device))

    def difference(self) -> Tensor:
        """T − I [d, d], in the dtype of the factors."""
        return self._left if self._right is None else self._left @ self._right

    def apply_to_weight(self, weight: Tensor) -> Tensor:
        """W·T for a weight W [out, d], in its dtype and on its device.

        Raises:
            InputError: the weight reads another dimension.
        """
        return self._transform(weight, transposed=False)

    def apply_to_context(self, context: Tensor) -> Tensor:
        """c·Tᵀ for token embeddings c [..., d], in their dtype and on their device: W·(T·c) = (W·T)·c.

        Raises:
            InputError: the token embeddings have another dimension.
        """
        return self._transform(context, transposed=True)

    def scaled(self, strength: float) -> Eraser:
        """T_s = I + s(T − I): 0 is the identity, 1 the eraser itself.

        Raises:
            InputError: the strength is not finite, or so large that T_s is not.
        """
        check_strength(strength)
        left = self._left * strength
        check_change(left, self._right, f"The eraser at strength {strength:g}")
        return Eraser(left, self._right, self.provenance)

    def __matmul__(self, second: Eraser) -> Eraser:
        """First this eraser, then `second`: W·T_first·T_second, without metadata.

        T₁T₂ − I = [L₁, T₁L₂]·[R₁; R₂]: earlier factors stay, later ones are moved by T₁.

        Raises:
            InputError: the two have different dimensions, or their product is not finite.
        """
        if not isinstance(second, Eraser):
            return NotImplemented
        if second.dimension != self.dimension:
            raise InputError(
                f"An eraser of dimension {self.dimension} cannot be combined with one of dimension "
                f"{second.dimension}: combine erasers of the same architecture."
            )
        dtype = torch.promote_types(self.dtype, second.dtype)
        first, later = self.to(dtype=dtype), second.to(device=self.device, dtype=dtype)
        moved = first._times(later._left)
        if first._right is not None and later._right is not None:
            return Eraser(torch.cat([first._left, moved], dim=1), torch.cat([first._right, later._right]))
        if later._right is not None:
            moved = moved @ later._right
        return Eraser(moved.add_(first.difference()))

    def compressed(self, tolerance: float = 0.0, max_rank: int | None = None) -> Eraser:
        """The same transform with balanced factors of the least rank, by the SVD of left @ right.

        Args:
            tolerance: directions with singular values up to `tolerance` times the largest are dropped; the
                spectral norm of T − I changes by no more than that, relatively.
            max_rank: keep at most this many directions (the largest ones).
        """
        left_basis, left_rest = torch.linalg.qr(self._left)
        right_basis, right_rest = torch.linalg.qr(self.right.T)
        u, sigma, vh = torch.linalg.svd(left_rest @ right_rest.T)
        kept = int((sigma > tolerance * sigma[:1]).sum())
        kept = kept if max_rank is None else min(kept, max_rank)
        root = sigma[:kept].sqrt()
        return Eraser(left_basis @ (u[:, :kept] * root), (vh[:kept] * root[:, None]) @ right_basis.T, self.provenance)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Eraser:
        """The same eraser with its factors on another device or in another dtype."""
        if (device is None or torch.device(device) == self.device) and dtype in (None, self.dtype):
            return self
        right = None if self._right is None else self._right.to(device=device, dtype=dtype)
        return Eraser(self._left.to(device=device, dtype=dtype), right, self.provenance)

    def with_metadata(self, metadata: Mapping[str, Any] | Provenance) -> Eraser:
        """The same eraser with other provenance."""
        return Eraser(self._left, self._right, metadata)

    def stored(self) -> StoredPart:
        """As a file holds it."""
        named = {"delta": self._left} if self._right is None else {"left": self._left, "right": self._right}
        return StoredPart(self.kind, named)

    @classmethod
    def from_stored(cls, part: StoredPart, provenance: Provenance) -> Eraser:
        """The eraser in a part that was read."""
        if "delta" in part.tensors:
            return cls(part.tensors["delta"], None, provenance)
        return cls(part.tensors["left"], part.tensors["right"], provenance)

    def describe(self) -> str:
        """As in 'dimension 768, rank 3'."""
        return f"dimension {self.dimension}, {'dense' if self.is_dense else f'rank {self.rank}'}"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write this eraser as a file with the one stream `text`. See `EraserSet.save`."""
        write_eraser_file(
            path, {TEXT_STREAM: self.stored()}, of_one_stream(self.provenance, TEXT_STREAM, self.dimension)
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Eraser:
        """Read a file with one text stream and nothing else.

        Raises:
            EraserFileError: the file is unsound (see `read_eraser_file`), holds several parts or has a shape.
        """
        parts, provenance, _, shape = read_eraser_file(path)
        name = quoted(os.path.basename(path))
        if len(parts) != 1:
            raise EraserFileError(
                f"{name} holds {len(parts)} text streams ({printable(', '.join(sorted(parts)))}): "
                "load it with EraserSet.load."
            )
        (part,) = parts.values()
        if not shape.is_whole:
            raise EraserFileError(f"{name} counts only in a part of a model: load it with EraserSet.load.")
        if part.kind != cls.kind:
            raise EraserFileError(f"{name} holds a {part.kind} and no text transform: load it with EraserSet.load.")
        return cls.from_stored(part, provenance)

    def __repr__(self) -> str:
        kind = "dense" if self.is_dense else f"rank {self.rank}"
        return f"Eraser(dimension={self.dimension}, {kind}, {str(self.dtype).removeprefix('torch.')})"

    def _times(self, columns: Tensor) -> Tensor:
        """T @ columns, a new tensor."""
        if self._right is None:
            return torch.addmm(columns, self._left, columns)
        return torch.addmm(columns, self._left, self._right @ columns)

    def _transform(self, rows: Tensor, transposed: bool) -> Tensor:
        if rows.shape[-1] != self.dimension:
            raise InputError(
                f"This eraser is for token embeddings of dimension {self.dimension}, but the tensor it is applied "
                f"to reads {rows.shape[-1]}: it belongs to another architecture."
            )
        # Half precision would round the product of the factors away; float32 keeps it.
        dtype = torch.promote_types(rows.dtype, torch.float32)
        flat = rows.reshape(-1, self.dimension).to(dtype)
        factors = [f.to(device=rows.device, dtype=dtype) for f in self.factors() if f is not None]
        if transposed:
            factors = [factor.T for factor in reversed(factors)]
        change = flat
        for factor in factors[:-1]:
            change = change @ factor
        return torch.addmm(flat, change, factors[-1]).to(rows.dtype).reshape(rows.shape)


def result_dtype(concept: Tensor) -> torch.dtype:
    """The dtype that an eraser of these token embeddings has: theirs, but float32 at least.

    Half precision would round a transform away.
    """
    return torch.promote_types(concept.dtype, torch.float32)


def _check_factors(left: Tensor, right: Tensor | None) -> None:
    if left.ndim != 2 or not left.is_floating_point():
        raise InputError(f"The left factor is {left.dtype} {list(left.shape)}: give floats [dimension, rank].")
    if right is None and left.shape[0] != left.shape[1]:
        raise InputError(f"A dense difference T − I must be square, not {list(left.shape)}.")
    if right is not None and (right.shape != (left.shape[1], left.shape[0]) or right.dtype != left.dtype):
        raise InputError(
            f"The factors {left.dtype} {list(left.shape)} and {right.dtype} {list(right.shape)} do not fit together: "
            "give left [dimension, rank] and right [rank, dimension] of one dtype."
        )
