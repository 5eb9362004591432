"""The training of the text encoder: captions against pictures, contrastively, as CLIP's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from pocket_model import everyday, image_network
from pocket_model.album import Album, Corpus
from pocket_model.captions import Example, all_words, everyday_prompts, unet_examples
from pocket_model.compact import IMAGE, TEXT, TEXT_WEIGHTS, read_compact, read_metadata, write_compact
from pocket_model.image_network import ImageNetwork
from pocket_model.precision import autocast
from pocket_model.recipe import Recipe
from pocket_model.text_network import TextNetwork, ends, token_ids, tokens_in_use, tokens_of, trained_shapes
from pocket_model.training import Training

# The temperature that the cosines are divided by begins at CLIP's.
FIRST_SCALE, LARGEST_SCALE = math.log(1 / 0.07), math.log(100)


class Pair(nn.Module):
    """Both encoders and the temperature; they are trained together."""

    def __init__(self, text: TextNetwork, image: ImageNetwork) -> None:
        super().__init__()
        self.text, self.image = text, image
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE))

    def loss(self, ids: Tensor, read: Tensor, pictures: Tensor) -> Tensor:
        """Cross entropy of the right pairs, both ways (Radford et al. 2021).

        Args:
            ids: of captions [n, positions].
            read: the position at which each caption's meaning is read [n].
            pictures: of the captions [n, 3, 64, 64].
        """
        tokens = self.text(ids)
        told = functional.normalize(tokens[torch.arange(len(ids), device=ids.device), read], dim=-1)
        logits = self.scale.clamp(max=LARGEST_SCALE).exp() * told @ self.image(pictures).T
        right = torch.arange(len(ids), device=ids.device)
        return (functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)) / 2


def train_text(
    recipe: Recipe, run: Path, device: torch.device, album: Album, examples: Sequence[Example]
) -> dict[str, Tensor]:
    """Both encoders' trained tensors, under `TEXT` and `IMAGE`; and which tokens are in use is in `tokens`."""
    print("text encoder", flush=True)
    examples = _short_enough(examples, recipe.text_positions)
    corpus = Corpus(examples, album, device)
    ids = token_ids(corpus.texts, recipe.text_positions)
    tokens = tokens_in_use([ids, token_ids(_vocabulary(recipe))])
    pair = Pair(TextNetwork(recipe.seed, tokens, recipe.rank), ImageNetwork(recipe.seed)).to(device)
    state = run / "text_pair.safetensors"
    faster = {"text.token_embedding": recipe.token_rate}
    training = Training(pair, recipe.text, state, recipe.seed, recipe.weight_decay, faster)
    ids, end = ids.to(device), ends(ids).to(device)

    def loss(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(corpus), (recipe.text.batch,), generator=generator, device=device)
        text = corpus.text[chosen]
        in_padding, where = torch.rand((2, len(chosen)), generator=generator, device=device)
        behind = (where * (recipe.text_positions - end[text])).long()
        read = end[text] + torch.where(in_padding < recipe.padding, behind, 0)
        pictures = album.show(corpus.pictures(chosen, generator))
        with autocast(device):
            return pair.loss(ids[text], read, pictures)

    return {**training.run(loss), "tokens": torch.tensor(tokens)}


def write_text_encoder(path: Path, recipe: Recipe, trained: Mapping[str, Tensor]) -> None:
    """Keep what `train_text` gave, in few bytes."""
    told, seen = (_under(trained, prefix) for prefix in ("text.", "image."))
    write_compact(
        path, {TEXT: told, IMAGE: seen}, {"tokens": str(trained["tokens"].tolist()), "rank": str(recipe.rank)}
    )


@dataclass(frozen=True)
class TrainedText:
    """What a file of text encoder weights holds.

    Attributes:
        tokens: in use.
        rank: of the matrices' changes.
        weights: the trained tensors.
    """

    tokens: list[int]
    rank: int
    weights: dict[str, Tensor]


def read_text_encoder(path: Path = TEXT_WEIGHTS) -> TrainedText:
    """The trained part of the text encoder."""
    metadata = read_metadata(path)
    tokens, rank = tokens_of(metadata), int(metadata["rank"])
    return TrainedText(tokens, rank, read_compact(path, TEXT, trained_shapes(len(tokens), rank)))


def text_network(seed: int, path: Path = TEXT_WEIGHTS) -> TextNetwork:
    """The trained text encoder."""
    trained = read_text_encoder(path)
    network = TextNetwork(seed, trained.tokens, trained.rank)
    network.load_state_dict(trained.weights)
    return network.eval()


def trained_image_network(seed: int, path: Path = TEXT_WEIGHTS) -> ImageNetwork:
    """The image encoder that it was trained against."""
    network = ImageNetwork(seed)
    network.load_state_dict(read_compact(path, IMAGE, image_network.trained_shapes()))
    return network.eval()


def _short_enough(examples: Sequence[Example], longest: int) -> list[Example]:
    """Those whose end-of-text token is within that many positions."""
    texts = list(dict.fromkeys(example.caption.text for example in examples))
    fits = dict(zip(texts, (ends(token_ids(texts)) < longest).tolist(), strict=True))
    return [example for example in examples if fits[example.caption.text]]


def _vocabulary(recipe: Recipe) -> list[str]:
    """Every word that has to have a meaning, whether or not chance put it into a caption that is short enough."""
    texts = [example.caption.text for example in unet_examples(recipe.seed, recipe.captions)]
    texts += [*(name for _, name in all_words()), *everyday.words(), *everyday_prompts()]
    return ["", *sorted({word for text in texts for word in text.replace(",", " , ").split()})]


def _under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
