"""Ways to look at concepts that the node does not offer, to see what its own way is worth.

ComfyUI must be importable, and the pack as `rece_pack`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from rece_pack.nodes.host.architectures.detection import TextStream
from rece_pack.nodes.host.session import Session
from rece_pack.nodes.host.text.encoded import EncodedPrompt
from rece_pack.nodes.host.text.encoder import TextEncoder
from rece_pack.nodes.request.methods import EncodedRequest, Method, Needs, Outcome, Plan
from rece_pack.rece_ops import ConceptPair, Contrast, Differences, ProjectionSettings, RECESettings, gram_matrix
from rece_pack.rece_ops.progress import Progress
from torch import Tensor

ALL = (0, None)


@dataclass(frozen=True)
class OtherPlan:
    """A method's plan that looks at concepts otherwise.

    Attributes:
        plan: the method with its settings.
        contexts: where a projection compares the concept; None leaves that to the method.
        from_target: whether a projection compares it with its target instead of with other words.
        tokens: from which to which token counts, of those from the last subject token on.
    """

    plan: Plan
    contexts: tuple[str, ...] | None = None
    from_target: bool = False
    tokens: tuple[int, int | None] = ALL

    @property
    def method(self) -> Method:
        """The plan's."""
        return self.plan.method

    @property
    def settings(self) -> RECESettings | ProjectionSettings:
        """The plan's."""
        return self.plan.settings

    @property
    def exactly(self) -> bool:
        """The plan's."""
        return self.plan.exactly

    def needs(self, templates: Sequence[str]) -> Needs:
        """The plan's, with other contexts."""
        needs = self.plan.needs(templates)
        if self.from_target:
            return replace(needs, contexts=())
        return needs if self.contexts is None else replace(needs, contexts=self.contexts)

    def run(self, weights: Mapping[str, Tensor], encoded: EncodedRequest, progress: Progress | None) -> Outcome:
        """The plan's, on the tokens that count: of the concepts' own prompts, in templates too, and of no other contexts."""
        pairs = [self._pair(pair) for pair in encoded.pairs]
        differences = encoded.differences
        if self.from_target:
            differences = _gathered(gram_matrix(weights), [Contrast.of(pair) for pair in pairs])
        elif differences is not None and self.tokens != ALL:
            kept = [self._contrast(contrast) for contrast in differences.kept.values()]
            differences = _gathered(differences.gram, kept, [contrast.name for contrast in kept])
        return self.plan.run(weights, replace(encoded, pairs=pairs, differences=differences), progress)

    def _pair(self, pair: ConceptPair) -> ConceptPair:
        concept, target = (rows[slice(*self.tokens)] for rows in pair.subject_tokens())
        return pair if self.tokens == ALL else ConceptPair(pair.name, concept, target, scale=pair.scale)

    def _contrast(self, contrast: Contrast) -> Contrast:
        replacement = None if contrast.replacement is None else contrast.replacement[slice(*self.tokens)]
        return replace(
            contrast,
            concept=contrast.concept[slice(*self.tokens)],
            others=contrast.others[slice(*self.tokens)],
            replacement=replacement,
        )


def _gathered(gram: Tensor, contrasts: Sequence[Contrast], names: Sequence[str] = ()) -> Differences:
    found = Differences(gram, names)
    for contrast in contrasts:
        found.add(contrast)
    return found


class _Remembering(TextEncoder):
    """Encodes every prompt once: one erasure after the other compares with the same words."""

    def encode(self, text: str, keep: bool = True) -> EncodedPrompt:
        """As it is, and kept."""
        return super().encode(text)


class BenchSession(Session):
    """A session for many erasures, which are computed on the CPU: where several processes share a GPU, it has enough to do."""

    @cached_property
    def encoder(self) -> TextEncoder:
        """One that remembers."""
        return _Remembering(self.connected_clip, self.reader)

    def device(self, stream: TextStream) -> torch.device:
        """The CPU."""
        return torch.device("cpu")
