"""What kind of thing a word names, told by which parts of the model read it, whatever it says there.

Attention heads divide the work: those that read much of one colour read much of every colour, and little of a shape. Of a word's tokens
x [m, d] and a part p of a key or value weight (an eighth of its rows, about a head),

    e_p = log Σ_m ‖W_p (x_m − μ)‖²        u_p = (e_p − ē_p) / σ_p

with the mean μ of all words of a vocabulary, and the mean ē and deviation σ of e over them. Of a word w and a concept c,

    distance = ‖u_w − u_c‖ / ‖u_c‖

is 0 where the same parts read both as much, and about 1 where the word is read as an average one is. The *kin* of a concept are the words
that are at most `KIN_LIMIT` away. Its best *target* is the commonest of those that are nearly as near as the nearest of all: another thing
of the same kind, which the model knows well.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import InputError
from ..linear.gram import check_projection
from ..progress import Progress, Steps

PARTS = 8
"""Of each weight: Stable Diffusion 1 has as many heads; where there are more, a part holds some of them."""
LEAST_WEIGHTS, LEAST_WORDS = 4, 200
"""With fewer weights nothing is divided among them, and with fewer words there is no average one."""
KIN_LIMIT = 0.4
NEARLY = 0.05
"""How much farther than the nearest word of its kind a target may be."""
_AT_ONCE = 2048
_STAGE = "comparing kinds"
_TINY = torch.finfo(torch.float32).tiny


def can_tell_kinds(weights: int, words: int) -> bool:
    """Whether there are enough weights and words for kinds to show."""
    return weights >= LEAST_WEIGHTS and words >= LEAST_WORDS


def kind_distances(
    weights: Mapping[str, Tensor], words: Tensor, concepts: Tensor, progress: Progress | None = None
) -> Tensor:
    """How far each word is from each concept in kind: [c, n], in one pass over the weights; see the module's head.

    Args:
        weights: the key and value weights [out, d] by name; read one at a time, so the mapping may be lazy.
        words: x [n, m, d] of the vocabulary's words, n ≥ 2.
        concepts: x [c, m, d].
        progress: called as progress(done, total, stage) after every weight; may raise to cancel.

    Raises:
        InputError: the shapes do not fit, or a weight is not finite.
    """
    if words.ndim != 3 or len(words) < 2 or words.shape[1:] != concepts.shape[1:]:
        raise InputError(
            f"The words are {list(words.shape)} and the concepts {list(concepts.shape)}: give at least two words, "
            "[words, tokens, d], and concepts with as many tokens."
        )
    steps = Steps(progress, len(weights))
    centre = words.float().mean(dim=0)
    rows = torch.cat([words.float(), concepts.float()]) - centre
    columns = []
    for name in weights:
        weight = weights[name]
        check_projection(name, weight, rows.shape[2])
        columns.append(_read_by_parts(rows, weight))
        steps.done(_STAGE)
    energies = torch.cat(columns, dim=1).double()
    of_words, of_concepts = energies[: len(words)], energies[len(words) :]
    spread, mean = torch.std_mean(of_words, dim=0)
    # A part that reads all words alike tells nothing.
    scale = torch.where(spread > 0, spread, float("inf"))
    ours, theirs = ((one - mean) / scale for one in (of_concepts, of_words))
    return torch.cdist(ours, theirs) / torch.linalg.vector_norm(ours, dim=1, keepdim=True)


def _read_by_parts(rows: Tensor, weight: Tensor) -> Tensor:
    """log Σ_m ‖W_p x_m‖² [n, parts] of rows x [n, m, d], on the CPU."""
    parts = torch.tensor_split(weight.detach().float(), min(PARTS, len(weight)))
    found = []
    for some in torch.split(rows, _AT_ONCE):
        moved = some.to(weight.device)
        energies = [torch.matmul(moved, part.T).square().sum(dim=(1, 2)) for part in parts]
        found.append(torch.stack(energies, dim=1).clamp(min=_TINY).log().cpu())
    return torch.cat(found)


def nearest_kin(distances: Tensor, allowed: Tensor, most: int) -> list[int]:
    """The places of at most `most` words of the concept's kind, nearest first.

    Args:
        distances: [n], of one concept.
        allowed: [n], which words may be among them.
        most: how many.
    """
    chosen = (allowed & (distances <= KIN_LIMIT)).nonzero().flatten()
    return [int(place) for place in chosen[distances[chosen].argsort(stable=True)[:most]]]


def target_of_kind(distances: Tensor, allowed: Tensor) -> int | None:
    """The place of the best target (see the module's head); None where no word may be one.

    Args:
        distances: [n], of one concept; words come in the order of how common they are.
        allowed: [n], which words may be one.
    """
    away = distances.where(allowed, float("inf"))
    nearest = float(away.min())
    if not nearest < float("inf"):
        return None
    if nearest > KIN_LIMIT:
        return int(away.argmin())
    return int((away <= min(nearest + NEARLY, KIN_LIMIT)).nonzero()[0])
