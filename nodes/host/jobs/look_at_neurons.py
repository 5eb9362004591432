"""What feed-forward layers get from pictures of a concept and of its base, and from those of adversaries that look for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ....rece_ops.attacks.inversion import InversionSettings
from ....rece_ops.linear.finite import is_finite
from ....rece_ops.methods.pruning import PairedNorms
from ....rece_ops.texts import quoted
from ...request.concept_lines import ConceptLine
from ...request.pruning_request import PruningRequest
from ..errors import NotFiniteError
from ..progress import JobProgress, PictureProgress
from ..session import Session
from ..text.conditioning import Conditioning
from ..training.layers import TrainedLayers
from ..training.neurons import NeuronActivity
from ..training.pictures import make_pictures, make_pictures_of
from .invert import invert_latents

ATTACKED = 8
"""So many pictures of the concept, at most, an adversary learns from."""
_LEARNED = 4


@dataclass(frozen=True)
class Looked:
    """What was seen of one concept.

    Attributes:
        norms: by the key of the layer's weight.
        directions: [steps, columns], how the mean input differs from the base's.
    """

    norms: Mapping[str, PairedNorms]
    directions: Mapping[str, Tensor]


class Look:
    """Looks at concepts, one after the other.

    Args:
        session: MODEL and CLIP.
        request: what to look at.
        shapes: [rows, columns] of the layers' weights, by their keys.
        progress: has the parts 'look' and 'attack'.
    """

    def __init__(
        self,
        session: Session,
        request: PruningRequest,
        shapes: Mapping[str, tuple[int, int]],
        progress: JobProgress,
    ) -> None:
        self._session, self._request, self._progress = session, request, progress
        self._columns = {key: columns for key, (_, columns) in shapes.items()}

    def plain(self, line: ConceptLine) -> Looked:
        """Pictures of the concept and of its base from the same noise.

        Raises:
            NotFiniteError: the MODEL's activations are not finite.
        """
        concept, base = (
            [self._session.encoder.conditioning(getattr(pair, side)) for pair in self._request.pairs(line)]
            for side in ("concept", "anchor")
        )
        return self._paired(line, concept, base, self._parts("look", line, 2))

    def under_attack(self, line: ConceptLine, pruned: TrainedLayers) -> Looked:
        """The same of the pruned MODEL, with contexts in the concept's place that are learned to bring it back.

        Args:
            line: the concept.
            pruned: the layers with what was pruned so far, attached.

        Raises:
            NotFiniteError: the activations are not finite.
        """
        settings, request, session = self._request.settings, self._request, self._session
        pairs = request.pairs(line)
        making, *learning, concept, base = self._parts("attack", line, settings.adversaries + 3)
        shown = make_pictures(
            session, [pair.concept for pair in pairs[:ATTACKED]], request.pictures, settings.seed, making
        )
        with pruned.on():
            learned = [
                invert_latents(
                    session,
                    shown,
                    pairs[turn % len(pairs)].anchor,
                    InversionSettings(_LEARNED, settings.adversary_steps, seed=settings.seed + turn),
                    report,
                ).conditioning
                for turn, report in enumerate(learning)
            ]
            attacking = [learned[place % len(learned)] for place in range(len(pairs))]
            anchors = [session.encoder.conditioning(pair.anchor) for pair in pairs]
            return self._paired(line, attacking, anchors, (concept, base))

    def _paired(
        self,
        line: ConceptLine,
        concept: Sequence[Conditioning],
        base: Sequence[Conditioning],
        reports: Sequence[PictureProgress],
    ) -> Looked:
        own, other = (self._activity(prompts, report) for prompts, report in zip((concept, base), reports, strict=True))
        norms = {key: PairedNorms(own.norms(key), other.norms(key)) for key in self._columns}
        if not all(is_finite(one) for pair in norms.values() for one in pair):
            raise NotFiniteError(
                f"The MODEL's activations for {quoted(line.concept)} hold NaN or infinite values: load it in float32 or bfloat16."
            )
        return Looked(norms, {key: own.means(key) - other.means(key) for key in self._columns})

    def _activity(self, prompts: Sequence[Conditioning], report: PictureProgress) -> NeuronActivity:
        settings = self._request.settings
        found = NeuronActivity(self._session.model, self._columns, settings.first_steps)
        with found.listening():
            make_pictures_of(
                self._session,
                prompts,
                self._request.pictures,
                settings.seed,
                report,
                settings.first_steps,
                found.begin,
            )
        return found

    def _parts(self, name: str, line: ConceptLine, turns: int) -> list[PictureProgress]:
        """What to report `turns` turns of that concept to."""
        concepts = self._request.concepts
        begun = turns * concepts.index(line)
        return [self._progress.part(name, begun + turn, turns * len(concepts)) for turn in range(turns)]
