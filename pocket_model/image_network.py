"""The small image encoder that the text encoder is trained against; the pocket model itself does not need it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pocket_model.text_network import WIDTH

CHANNELS = (48, 96, 192, 320)


class ImageNetwork(nn.Module):
    """Pictures [n, 3, 64, 64] in 0 … 1 to embeddings [n, 768] of norm 1."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        parts: list[nn.Module] = []
        for before, after in zip((3, *CHANNELS), CHANNELS, strict=False):
            parts += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(16, after), nn.GELU()]
        self.convolutions = nn.Sequential(*parts)
        # What is seen, and where: the means of the whole picture and of its quarters.
        self.out = nn.Linear(CHANNELS[-1] * 5, WIDTH)

    def forward(self, pictures: Tensor) -> Tensor:
        """The embeddings."""
        seen = self.convolutions(pictures * 2 - 1)
        pooled = [nn.functional.adaptive_avg_pool2d(seen, size).flatten(1) for size in (1, 2)]
        return nn.functional.normalize(self.out(torch.cat(pooled, dim=1)).float(), dim=-1)


def trained_shapes() -> dict[str, torch.Size]:
    """The shapes of its tensors."""
    with torch.device("meta"):
        return {name: value.shape for name, value in ImageNetwork(0).named_parameters()}
