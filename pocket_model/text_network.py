"""The text encoder that is trained: CLIP-L with random matrices from a seed, and what training adds to them.

Trained are the token embeddings of the words in use, the norms and biases, and a change of low rank of every matrix. All
else comes from the seed, so that what is stored is small.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.random_weights import CLIP_L, POSITIONS

HEADS, WIDTH, LAYERS = 12, CLIP_L.width, CLIP_L.layers
END_OF_TEXT = 49407
MATRICES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
TOKENS = "embeddings.token_embedding.weight"


@cache
def seeded_weights(seed: int) -> dict[str, Tensor]:
    """The weights that training begins with, float16, by their names in a checkpoint.

    Plainly scaled: with the gains of the tests' checkpoints, which make a few words change a picture, words would mix
    with their neighbours so much that a word alone has little to do with the same word in a sentence.
    """
    return {name.removeprefix(CLIP_L.prefix): value for name, value in CLIP_L.draw(seed, gains={}).items()}


class LowRank(nn.Module):
    """A seeded matrix that stays, plus up·down, plus a bias."""

    def __init__(self, weight: Tensor, bias: Tensor, rank: int) -> None:
        super().__init__()
        self.register_buffer("fixed", weight, persistent=False)
        self.bias = nn.Parameter(bias.float())
        self.down = nn.Parameter(torch.randn(rank, weight.shape[1]) * weight.shape[1] ** -0.5)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] to [..., out]."""
        fixed: Tensor = self.fixed  # type: ignore[assignment]
        if not torch.is_autocast_enabled(x.device.type):
            fixed = fixed.to(x)
        return functional.linear(x, fixed, self.bias) + functional.linear(functional.linear(x, self.down), self.up)


class Layer(nn.Module):
    """One layer of the transformer; named as CLIP's are."""

    def __init__(self, weights: Mapping[str, Tensor], rank: int) -> None:
        super().__init__()
        self.layer_norm1, self.layer_norm2 = (_norm(weights, f"layer_norm{place}.") for place in (1, 2))
        for name in MATRICES:
            module = LowRank(weights[f"{name}.weight"], weights[f"{name}.bias"], rank)
            self.add_module(name.replace(".", "_"), module)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, positions, width]."""
        normed = self.layer_norm1(x)
        shape = (*x.shape[:2], HEADS, WIDTH // HEADS)
        q, k, v = (self._matrix(f"self_attn.{part}_proj", normed).view(shape).transpose(1, 2) for part in "qkv")
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self._matrix("self_attn.out_proj", mixed)
        inner = self._matrix("mlp.fc1", self.layer_norm2(x))
        return x + self._matrix("mlp.fc2", inner * torch.sigmoid(1.702 * inner))

    def _matrix(self, name: str, x: Tensor) -> Tensor:
        found: Tensor = self.get_submodule(name.replace(".", "_"))(x)
        return found


class TextNetwork(nn.Module):
    """The text encoder, for the tokens in use.

    Args:
        seed: of the weights that it begins with.
        tokens: in use; the others cannot be read.
        rank: of the changes.
    """

    def __init__(self, seed: int, tokens: Sequence[int], rank: int) -> None:
        super().__init__()
        weights = seeded_weights(seed)
        torch.manual_seed(seed)
        self.rank, self.tokens = rank, list(tokens)
        self.token_embedding = nn.Parameter(weights[TOKENS][self.tokens].float())
        self.register_buffer("positions", weights["embeddings.position_embedding.weight"].float(), persistent=False)
        row = torch.full((len(weights[TOKENS]),), -1)
        row[self.tokens] = torch.arange(len(self.tokens))
        self.register_buffer("row", row, persistent=False)
        self.layers = nn.ModuleList(Layer(_under(weights, f"encoder.layers.{place}."), rank) for place in range(LAYERS))
        self.final_layer_norm = _norm(weights, "final_layer_norm.")

    def forward(self, ids: Tensor) -> Tensor:
        """Token embeddings [n, positions, 768] of ids [n, positions], of which there may be fewer than 77."""
        row: Tensor = self.row  # type: ignore[assignment]
        positions: Tensor = self.positions  # type: ignore[assignment]
        # The first positions are what they are in a longer text, as no token sees the ones behind it.
        x = self.token_embedding[row[ids]] + positions[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.final_layer_norm(x.float())
        return out


def trained_shapes(count: int, rank: int) -> dict[str, torch.Size]:
    """The shapes of the trained tensors, with `count` tokens in use."""
    wide, narrow = 4 * WIDTH, WIDTH
    sizes = {name: (wide if name == "mlp.fc1" else narrow, wide if name == "mlp.fc2" else narrow) for name in MATRICES}
    found = {"token_embedding": (count, WIDTH), "final_layer_norm.weight": (WIDTH,), "final_layer_norm.bias": (WIDTH,)}
    for layer in range(LAYERS):
        for norm in ("layer_norm1", "layer_norm2"):
            found |= {f"layers.{layer}.{norm}.{part}": (WIDTH,) for part in ("weight", "bias")}
        for name, (out, into) in sizes.items():
            prefix = f"layers.{layer}.{name.replace('.', '_')}"
            found |= {f"{prefix}.bias": (out,), f"{prefix}.down": (rank, into), f"{prefix}.up": (out, rank)}
    return {name: torch.Size(shape) for name, shape in found.items()}


def merged_weights(seed: int, trained: Mapping[str, Tensor], tokens: Sequence[int]) -> dict[str, Tensor]:
    """The whole text encoder, float16, by its names in a checkpoint."""
    weights = dict(seeded_weights(seed))
    weights[TOKENS] = weights[TOKENS].clone()
    weights[TOKENS][list(tokens)] = trained["token_embedding"].half()
    for part in ("weight", "bias"):
        weights[f"final_layer_norm.{part}"] = trained[f"final_layer_norm.{part}"].half()
    for layer in range(LAYERS):
        for norm in ("layer_norm1", "layer_norm2"):
            for part in ("weight", "bias"):
                weights[f"encoder.layers.{layer}.{norm}.{part}"] = trained[f"layers.{layer}.{norm}.{part}"].half()
        for name in MATRICES:
            full, own = f"encoder.layers.{layer}.{name}", f"layers.{layer}.{name.replace('.', '_')}"
            # In double precision the sum's order, which is the machine's, is no matter after rounding.
            change = trained[f"{own}.up"].double() @ trained[f"{own}.down"].double()
            weights[f"{full}.weight"] = (weights[f"{full}.weight"].double() + change).half()
            weights[f"{full}.bias"] = trained[f"{own}.bias"].half()
    return {CLIP_L.prefix + name: value for name, value in weights.items()}


@cache
def tokenizer() -> Any:
    """The stock one, from ComfyUI's folder."""
    import comfy.sd1_clip
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(Path(comfy.sd1_clip.__file__).with_name("sd1_tokenizer"))


def token_ids(texts: Sequence[str], longest: int = POSITIONS) -> Tensor:
    """Ids [n, longest] of texts, as ComfyUI gives them to SD1's text encoder: padded with end-of-text tokens.

    Raises:
        ValueError: a text is longer.
    """
    rows: list[list[int]] = tokenizer()(list(texts))["input_ids"]
    for text, row in zip(texts, rows, strict=True):
        if len(row) > longest:
            raise ValueError(f"'{text}' has {len(row)} tokens, and there is room for {longest}.")
    return torch.tensor([row + [END_OF_TEXT] * (longest - len(row)) for row in rows])


def ends(ids: Tensor) -> Tensor:
    """Where each text of ids [n, positions] ends: the place of the first end-of-text token [n]."""
    return (ids == END_OF_TEXT).int().argmax(dim=1)


def tokens_in_use(groups: Iterable[Tensor]) -> list[int]:
    """Every id in the groups, ascending."""
    return sorted({int(one) for group in groups for one in torch.unique(group)})


def tokens_of(file_metadata: Mapping[str, str]) -> list[int]:
    """The tokens in use that a file names."""
    return [int(one) for one in json.loads(file_metadata["tokens"])]


def _norm(weights: Mapping[str, Tensor], prefix: str) -> nn.LayerNorm:
    norm = nn.LayerNorm(WIDTH, eps=1e-5)
    norm.load_state_dict({name: value.float() for name, value in _under(weights, prefix).items()})
    return norm


def _under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
