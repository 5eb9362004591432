"""What the text encoder has learned: how near words are to their synonyms, to words of their kind, and to other words.

    python -m pocket_model.geometry [--device cpu|cuda] [--text FILE] [--unet FILE] [--json FILE]

Cosines of bare words' embeddings at the end-of-text token and at the word's last token, plain and after the mean of all
words is taken off, and in the metric G = Σ WᵀW of the UNet's key and value projections, which is what they read. And how
often, of 320 captions, the right one is found for a picture whose pair of object and colour was never shown.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.nn import functional

from pocket_model import everyday
from pocket_model.captions import is_held_out
from pocket_model.compact import TEXT_WEIGHTS, WEIGHTS
from pocket_model.rates import Rate
from pocket_model.recipe import RECIPE
from pocket_model.rendering import PLACES, render
from pocket_model.text_network import TextNetwork, ends, token_ids
from pocket_model.train_text import text_network, trained_image_network
from pocket_model.world import COLOURS, KINDS, NEIGHBOURS, OBJECTS, STYLES, Description, Scene, describe
from tools.host import prepare_comfyui
from tools.launch_comfyui import make_importable

POSITIONS = 24
EVERYDAY = "everyday"
RELATIONS = ("synonyms", "held-out synonyms", "neighbour", "siblings", "other kinds")
READERS = (".attn2.to_k.weight", ".attn2.to_v.weight")
Encode = Callable[[list[str]], tuple[Tensor, Tensor]]
"""Embeddings [n, 768] of texts at the end-of-text token, and at the last token of the text."""


@dataclass(frozen=True)
class Named:
    """A word that is measured."""

    text: str
    kind: str
    name: str
    held_out: bool = False


def words() -> list[Named]:
    """All words of the world, and the everyday ones, whose kinds are their families."""
    found = []
    for kind, group in KINDS.items():
        for word in group:
            found += [Named(text, kind, word.name) for text in (word.name, *word.synonyms)]
            found += [Named(text, kind, word.name, held_out=True) for text in word.held_out]
    for text in everyday.words():
        family, first = everyday.kin(text)
        found.append(Named(text, family, first))
    return found


def cosines(embeddings: Tensor, named: list[Named], gram: Tensor | None = None) -> dict[str, float]:
    """Mean cosine of [n, d] embeddings of the words between each relation's pairs, in the metric `gram` [d, d].

    Only the names of things are compared with those of their siblings and of other kinds.
    """
    metric = torch.eye(embeddings.shape[1]).to(embeddings) if gram is None else gram.to(embeddings)
    inner = embeddings @ metric @ embeddings.T
    length = inner.diagonal().clamp(min=1e-12).sqrt()
    cosine = inner / length[:, None] / length
    pairs: dict[str, list[Tensor]] = {relation: [] for relation in RELATIONS}
    for i, one in enumerate(named):
        for j, other in enumerate(named):
            if i == j or one.text != one.name:
                continue
            if relation := _relation(one, other):
                pairs[relation].append(cosine[i, j])
                if relation == "siblings" and _are_neighbours(one, other):
                    pairs["neighbour"].append(cosine[i, j])
    return {relation: float(torch.stack(found).mean()) for relation, found in pairs.items() if found}


def tables(encode: Encode, gram: Tensor | None) -> dict[str, dict[str, float]]:
    """`cosines` of the world's words and of everyday ones, at both tokens, plain and centred, and in G."""
    named = words()
    told = encode([word.text for word in named])
    world = [place for place, word in enumerate(named) if word.kind in KINDS]
    rest = [place for place, word in enumerate(named) if word.kind not in KINDS]
    found = {}
    for where, embeddings in zip(("end of text", "last token"), told, strict=True):
        centred = embeddings - embeddings.mean(dim=0)
        for which, chosen in (("world", world), (EVERYDAY, rest)):
            own = [named[place] for place in chosen]
            found[f"{which}, {where}, plain"] = cosines(embeddings[chosen], own)
            found[f"{which}, {where}, centred"] = cosines(centred[chosen], own)
            if gram is not None:
                found[f"{which}, {where}, in G"] = cosines(embeddings[chosen], own, gram)
                found[f"{which}, {where}, centred, in G"] = cosines(centred[chosen], own, gram)
    return found


@torch.inference_mode()
def zero_shot(text: TextNetwork, seed: int, device: torch.device, path: Path, held_out: bool, count: int = 500) -> Rate:
    """How often the caption of a picture is found among all that name object, colour and style."""
    image, random = trained_image_network(seed, path).to(device), Random(seed)
    scenes = [Scene(o.name, c.name, s.name) for o in OBJECTS for c in COLOURS for s in STYLES]
    unseen = [is_held_out(Description(object=scene.object, colour=scene.colour)) for scene in scenes]
    told = functional.normalize(_encoder(text, device)([describe(scene).text for scene in scenes])[0], dim=-1)
    among = [place for place, hidden in enumerate(unseen) if hidden == held_out]
    asked = [random.choice(among) for _ in range(count)]
    pictures = torch.stack([render(scenes[place], random.choice(PLACES)) for place in asked])
    found = (image(pictures.to(device)) @ told.T).argmax(dim=1).tolist()
    return Rate.of(one == other for one, other in zip(asked, found, strict=True))


def gram_of(unet: Mapping[str, Tensor]) -> Tensor:
    """G [768, 768] of a UNet's key and value projections."""
    return sum((w.T @ w for name, w in unet.items() if name.endswith(READERS)), torch.zeros(1))


def _encoder(network: TextNetwork, device: torch.device) -> Encode:
    network = network.to(device)

    @torch.inference_mode()
    def encode(texts: list[str]) -> tuple[Tensor, Tensor]:
        ids = token_ids(texts, POSITIONS).to(device)
        tokens = torch.cat([network(part) for part in torch.split(ids, 64)])
        end, every = ends(ids), torch.arange(len(ids), device=device)
        return tokens[every, end], tokens[every, end - 1]

    return encode


def _relation(one: Named, other: Named) -> str | None:
    if one.kind == other.kind and one.name == other.name:
        return RELATIONS[1] if other.held_out else RELATIONS[0]
    if other.text != other.name:
        return None
    return "siblings" if one.kind == other.kind else "other kinds"


def _are_neighbours(one: Named, other: Named) -> bool:
    return NEIGHBOURS.get(one.name) == other.name


def report(seed: int, device: torch.device, text: Path, gram: Tensor | None) -> dict[str, object]:
    """All figures."""
    network = text_network(seed, text).to(device)
    seeded = TextNetwork(seed, network.tokens, 1)
    found: dict[str, object] = {"trained": tables(_encoder(network, device), gram)}
    found["seeded"] = tables(_encoder(seeded, device), None)
    rates = {str(hidden): zero_shot(network, seed, device, text, hidden) for hidden in (True, False)}
    found["zero-shot"] = {"held-out pairs": str(rates["True"]), "pairs that were shown": str(rates["False"])}
    return found


def main() -> int:
    """Measure and print."""
    from pocket_model.assemble import trained_unet

    parser = argparse.ArgumentParser(description="Measure the pocket model's text encoder.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--text", type=Path, default=TEXT_WEIGHTS, help="the text encoder's trained tensors")
    parser.add_argument("--unet", type=Path, default=WEIGHTS, help="the UNet's, for G; none without that file")
    parser.add_argument("--json", type=Path, help="also save the figures")
    arguments = parser.parse_args()
    make_importable(prepare_comfyui())
    gram = gram_of(trained_unet(arguments.unet)) if arguments.unet.is_file() else None
    found = report(RECIPE.seed, torch.device(arguments.device), arguments.text, gram)
    for which in ("trained", "seeded"):
        print(which, *RELATIONS, sep=" | ")
        for name, row in found[which].items():  # type: ignore[attr-defined]
            print(name, *(f"{row.get(relation, float('nan')):.2f}" for relation in RELATIONS), sep=" | ")
    print("zero-shot:", found["zero-shot"])
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
