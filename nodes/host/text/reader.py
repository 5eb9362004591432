"""What of CONDITIONING reaches the key and value weights of a MODEL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..architectures.detection import PREFIX, Architecture, TextStream
from ..architectures.sources import POOLED, TokenSource
from ..architectures.token_stages import LoadedStage, ReadWeight
from ..errors import WrongConnectionError
from ..patching.weights import effective_weight
from ..protocols import Model

FROM_CLIP = ("This CLIP makes", "connect the CLIP that belongs to the MODEL")
FROM_CONDITIONING = ("CONDITIONING holds", "connect one that was made for this model")

_CPU = torch.device("cpu")


class TextReader:
    """Says what of CONDITIONING reaches the key and value weights of a MODEL.

    Args:
        model: the MODEL.
        architecture: of it.
        read: gives a weight by its name below `diffusion_model`, where the MODEL itself does not hold them.
    """

    def __init__(self, model: Model, architecture: Architecture, read: ReadWeight | None = None) -> None:
        self.architecture = architecture
        network = model.model.diffusion_model
        of_model: ReadWeight = read or (lambda name: effective_weight(model, PREFIX + name, _CPU))
        stages = {
            source.stage for stream in architecture.streams for source in stream.sources if source.stage is not None
        }
        self._stages = {stage: stage.load(network, of_model) for stage in stages}

    def stage(self, source: TokenSource) -> LoadedStage | None:
        """What comes before the weights that read `source`; None where nothing does."""
        return None if source.stage is None else self._stages[source.stage]

    def staged(self, stream: TextStream) -> bool:
        """Whether something comes before the weights of a stream."""
        return any(self.stage(source) is not None for source in stream.sources)

    def held(self, source: TokenSource, embedding: Tensor, values: Mapping[str, Any]) -> Tensor:
        """The tokens [n, d'] in a source's slot, of the first prompt in the batch.

        Raises:
            WrongConnectionError: CONDITIONING does not have them.
        """
        found = source.slot.held_in(embedding, values)
        if not isinstance(found, Tensor):
            raise WrongConnectionError(
                f"CONDITIONING has no '{source.slot.key}', which {self.architecture.name} reads: encode the prompt with the "
                "CLIP that belongs to the MODEL."
            )
        return source.slot.of_first_prompt(found)

    def streams_in(self, values: Mapping[str, Any]) -> list[TextStream]:
        """The text streams that CONDITIONING with those values fills: all, or all but the pooled one."""
        return [stream for stream in self.architecture.streams if not stream.pooled or values.get(POOLED) is not None]

    def read(
        self,
        stream: TextStream,
        source: TokenSource,
        tokens: Tensor,
        values: Mapping[str, Any],
        origin: tuple[str, str] = FROM_CLIP,
    ) -> Tensor:
        """What the key and value weights read for `tokens` [n, d']: [n, d].

        Args:
            stream: that the tokens belong to.
            source: of the stream.
            tokens: as they are in the source's slot.
            values: of the CONDITIONING that they come from.
            origin: subject and remedy of the error about a wrong dimension.

        Raises:
            WrongConnectionError: the tokens have another dimension than MODEL reads.
        """
        stage = self.stage(source)
        expected = stream.dimension if stage is None else stage.reads
        if tokens.shape[-1] != expected:
            subject, remedy = origin
            raise WrongConnectionError(
                f"{subject} text embeddings of dimension {tokens.shape[-1]}, but the MODEL ({self.architecture.name}) "
                f"reads {expected}: {remedy}."
            )
        return tokens if stage is None else stage.apply(tokens, values)
