"""That a job left a network as it found it, however it ended."""

from __future__ import annotations

import torch
from torch import nn


def state_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all weights."""
    return {key: value.clone() for key, value in network.state_dict().items()}


def assert_untouched(network: nn.Module, before: dict[str, torch.Tensor]) -> None:
    """The weights are those of `before` to the bit, and nothing of a training hangs on the network."""
    after = network.state_dict()
    assert after.keys() == before.keys()
    # As bytes, because SD1's checkpoints lack a projection, which stays whatever was in memory: NaN, perhaps.
    assert [key for key, value in before.items() if not torch.equal(_bits(after[key]), _bits(value))] == []
    modules = list(network.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    assert not any(parameter.grad is not None for parameter in network.parameters())


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flatten().view(torch.uint8)
