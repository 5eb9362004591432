"""Few-shot unlearning in the text encoder, on the pocket model: what is still made, and what is kept.

    python -m benchmarks.unlearning --concept star --method bounded --steps 10 --learning-rate 4e-5

Trained on captions that nobody is measured on; it prints the errors step by step and the shares of pictures with their 95 % Wilson
intervals.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.erased_models import Bench, machine
from benchmarks.examples.run import SORTS
from pocket_model.networks import encode
from pocket_model.sampling import Sampler
from pocket_model.trials import Concept, concept_named, trials, without
from pocket_model.world import Caption

TRAINED_ON = 1
"""The seed of the captions that are trained on; those that are measured have seed 0."""


def main() -> int:
    """Unlearn one concept with one set of settings, and look at pictures."""
    parser = argparse.ArgumentParser(description="Unlearn a concept in the pocket model's text encoder.")
    parser.add_argument("--concept", default="star")
    parser.add_argument("--method", default="bounded", choices=("bounded", "as published"))
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--retain-weight", type=float, default=10.0)
    parser.add_argument("--captions", type=int, default=12, help="of each sort, half as many of the neighbour")
    arguments = parser.parse_args()
    bench = Bench(Sampler(steps=10, batch=64))
    concept = concept_named(arguments.concept)
    settings = {name: value for name, value in vars(arguments).items() if name not in ("concept", "captions")}
    found = _unlearned(bench, concept, settings)
    print(machine(), arguments, f"{found.seconds:.0f} s")
    for name in ("concept", "unedited", "anchored", "retaining"):
        print(f"  {name}: {' '.join(f'{value:.4f}' for value in getattr(found.record, name))}")
    measured = trials(concept, arguments.captions, arguments.captions)
    rates = bench.rates(bench.pocket.model, concept, measured, SORTS, partial(_embeddings, found.clip))
    print(concept.name, *(f"{name} {rate}" for name, rate in rates.items()))
    return 0


def _unlearned(bench: Bench, concept: Concept, settings: dict[str, Any]) -> Any:
    from rece_pack.nodes.host.jobs.unlearn import unlearn_in_text_encoder
    from rece_pack.nodes.host.session import Session
    from rece_pack.nodes.request.training_request import PictureSettings, training_request
    from rece_pack.rece_ops.training.settings import UnlearningSettings

    known = trials(concept, 24, 72, TRAINED_ON)
    request = training_request(
        f"{concept.name} -> {concept.target}",
        "\n".join(dict.fromkeys(caption.text for caption in without(concept, known.own, "{}"))),
        "\n".join(dict.fromkeys(caption.text for caption in (*known.neighbours, *known.others))),
        UnlearningSettings(**settings),
        PictureSettings(4, 8, 64, 10, 2.0),
    )
    pocket = bench.pocket
    with torch.inference_mode():
        return unlearn_in_text_encoder(Session.open(pocket.model, pocket.clip, pocket.vae), request)


def _embeddings(clip: Any, captions: Sequence[Caption]) -> Tensor:
    with torch.inference_mode():
        return encode(clip, [caption.text for caption in captions])


if __name__ == "__main__":
    sys.exit(main())
