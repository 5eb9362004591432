"""The measurement: one concept, one method after the other, every probe."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.audit.inversion import Start, invert
from benchmarks.audit.receler import trained
from benchmarks.audit.records import HARDENED, PROJECTION, PRUNINGS, RECELERS, TOKENS, VARIANTS, Found
from benchmarks.erased_models import UNEDITED, Bench, machine
from benchmarks.records import read_records, write_records
from pocket_model.classifier import classify
from pocket_model.rates import Rate
from pocket_model.trials import Concept, Trials, made, trials, without

TRAINED_ON, ATTACKED_WITH = 1, 2
"""Seeds of captions: nobody is trained on the captions that are measured (seed 0), nor attacks with them."""


@dataclass(frozen=True)
class Sizes:
    """How much is done; the standard sizes are for a graphics card.

    Attributes:
        captions: of each sort that is measured, half as many of the neighbour and twice as many others.
        contexts, preserved: captions that the training gets.
        pictures, retained, picture_steps: pictures that it makes.
        steps, erased, kept, adversaries: of the training; the batches are of concept and other pictures.
        attack_pictures: that the attacker has.
        attack_steps, attack_batch, starts: of the inversion; without a start there is none.
        choosing: pictures by which the best start is chosen.
        inner_steps: of Receler's adversary for each of its own.
        piece: seconds after which a training of Receler stops, to be gone on with by the same command; 0 never stops.
    """

    captions: int = 32
    contexts: int = 24
    preserved: int = 72
    pictures: int = 64
    retained: int = 128
    picture_steps: int = 10
    steps: int = 300
    erased: int = 16
    kept: int = 24
    adversaries: int = 12
    attack_pictures: int = 24
    attack_steps: int = 300
    attack_batch: int = 4
    starts: int = 5
    choosing: int = 10
    inner_steps: int = 50
    piece: int = 0


class Audit:
    """One concept: what is the same for all methods.

    Args:
        bench: the model.
        concept: to erase.
        sizes: how much is done.
        folder: of trainings in pieces.
        seed: of trainings and attacks.
    """

    def __init__(self, bench: Bench, concept: Concept, sizes: Sizes, folder: Path, seed: int = 0) -> None:
        self._bench, self._concept, self._sizes, self._seed = bench, concept, sizes, seed
        self._folder = folder
        self._trials = trials(concept, sizes.captions, 2 * sizes.captions)

    def measure(self, method: str) -> Found:
        """All probes of one method."""
        started = time.perf_counter()
        if method in RECELERS:
            eraser, seconds = self._receler(method)
        else:
            eraser = self._eraser(method)
            seconds = time.perf_counter() - started if eraser is not None else 0.0
        model = self._bench.pocket.model if eraser is None else self._bench.with_erasers(eraser)
        names = ("own", "paraphrased", "held_out", "neighbours", "others")
        rates: dict[str, Any] = self._bench.rates(model, self._concept, self._trials, names)
        print(method, self._concept.name, *(f"{name} {rate}" for name, rate in rates.items()), flush=True)
        return Found(
            method,
            self._concept.name,
            **rates,
            **self._inverted(model),
            seconds=seconds,
            size=_size(eraser),
            machine=machine(),
        )

    def _eraser(self, method: str) -> Any:
        if method == UNEDITED:
            return None
        if method == PROJECTION:
            return self._projection()
        if method in PRUNINGS:
            return self._pruned(PRUNINGS[method])
        return self._trained({} if method == HARDENED else VARIANTS[method])

    def _projection(self) -> Any:
        from rece_pack.nodes.host.jobs.erase import erase_concepts
        from rece_pack.nodes.host.session import Session
        from rece_pack.nodes.request.erasure_request import request_of

        line = f"{self._concept.name} -> {self._concept.target}"
        pocket = self._bench.pocket
        with torch.inference_mode():
            request = request_of(line, {"preset": "nudity", "method": "projection"})
            return erase_concepts(Session.open(pocket.model, pocket.clip), request).eraser

    def _pruned(self, settings: dict[str, Any]) -> Any:
        from rece_pack.nodes.host.jobs.prune import prune_concepts
        from rece_pack.nodes.host.session import Session
        from rece_pack.nodes.reporting.pruning import pruning_report
        from rece_pack.nodes.request.pruning_request import pruning_request
        from rece_pack.nodes.request.training_request import PictureSettings
        from rece_pack.rece_ops.methods.pruning import PruningSettings

        sizes, pocket = self._sizes, self._bench.pocket
        request = pruning_request(
            f"{self._concept.name} -> {self._concept.target}",
            self._contexts(trials(self._concept, sizes.contexts, 1, TRAINED_ON)),
            PruningSettings(first_steps=sizes.picture_steps, seed=self._seed, **settings),
            PictureSettings(sizes.pictures, 0, 64, sizes.picture_steps, 2.0),
        )
        with torch.inference_mode():
            found = prune_concepts(Session.open(pocket.model, pocket.clip), request)
        print(pruning_report(request, found), flush=True)
        return found.eraser

    def _receler(self, method: str) -> tuple[Any, float]:
        from rece_pack.rece_ops.training.settings import RecelerSettings

        sizes = self._sizes
        settings = RecelerSettings(
            steps=sizes.steps,
            sampling_steps=sizes.picture_steps,
            inner_steps=sizes.inner_steps,
            seed=self._seed,
            **RECELERS[method],
        )
        return trained(
            self._bench.pocket, self._concept, settings, self._folder / method, sizes.picture_steps, sizes.piece
        )

    def _contexts(self, known: Trials) -> str:
        """The concept's captions with '{}' in its place, one a line."""
        return "\n".join(dict.fromkeys(caption.text for caption in without(self._concept, known.own, "{}")))

    def _trained(self, changed: dict[str, Any]) -> Any:
        from rece_pack.nodes.host.jobs.train import train_eraser
        from rece_pack.nodes.host.session import Session
        from rece_pack.nodes.request.training_request import PictureSettings, training_request
        from rece_pack.rece_ops.training.settings import HardenedSettings

        sizes, pocket = self._sizes, self._bench.pocket
        known = trials(self._concept, sizes.contexts, sizes.preserved, TRAINED_ON)
        settings = HardenedSettings(
            steps=sizes.steps,
            batch=sizes.erased,
            retained_batch=sizes.kept,
            adversaries=sizes.adversaries,
            seed=self._seed,
        )
        request = training_request(
            f"{self._concept.name} -> {self._concept.target}",
            self._contexts(known),
            "\n".join(dict.fromkeys(one.text for one in (*known.neighbours, *known.others))),
            replace(settings, **changed),
            PictureSettings(sizes.pictures, sizes.retained, 64, sizes.picture_steps, 2.0),
        )
        with torch.inference_mode():
            found = train_eraser(Session.open(pocket.model, pocket.clip, pocket.vae), request)
        record = found.record
        print(
            f"{self._concept.name}: trained {record.steps} steps in {found.seconds:.1f} s, skipped {record.skipped}, "
            f"{record.stopped or 'to the end'}",
            flush=True,
        )
        for name, series in record.series().items():
            marks = [sum(part) / len(part) for part in _tenths(series)]
            print(f"  {name}: {' '.join(f'{mark:.4f}' for mark in marks)}", flush=True)
        return found.eraser

    @cached_property
    def _attackers_latents(self) -> Tensor:
        attackers = trials(self._concept, self._sizes.attack_pictures, 1, ATTACKED_WITH).own
        shown = self._bench.pictures(self._bench.pocket.model, attackers)
        with torch.inference_mode():
            found: Tensor = self._bench.pocket.vae.encode(shown.movedim(1, -1)).cpu()
        return found

    def _inverted(self, model: Any) -> dict[str, Any]:
        """The best start of each number of tokens, chosen on pictures of its own and counted on others."""
        sizes, bench = self._sizes, self._bench
        if not sizes.starts:
            return {
                f"{name}_{tokens}": none
                for tokens in TOKENS
                for name, none in (("inverted", Rate(0, 0)), ("starts", ()))
            }
        prompts = ["", *(caption.text for caption in trials(self._concept, 1, sizes.starts, ATTACKED_WITH).others)]
        # The first from the empty prompt, as Invert Concept by default; the others from prompts of other things.
        begun = bench.pocket.embeddings(prompts)[: sizes.starts]
        starts = [Start(embedding, tokens) for tokens in TOKENS for embedding in begun]
        learned = invert(model, self._attackers_latents, starts, sizes.attack_steps, sizes.attack_batch, self._seed)
        shares = [made(self._concept, seen).share for seen in self._shown(model, learned, sizes.choosing, 10_000)]
        found: dict[str, Any] = {}
        for turn, tokens in enumerate(TOKENS):
            own = shares[turn * sizes.starts : (turn + 1) * sizes.starts]
            best = learned[turn * sizes.starts + max(range(len(own)), key=own.__getitem__)]
            (seen,) = self._shown(model, [best], sizes.captions, 0)
            found |= {f"inverted_{tokens}": made(self._concept, seen), f"starts_{tokens}": tuple(own)}
        return found

    def _shown(self, model: Any, learned: Sequence[Tensor], count: int, seed: int) -> list[Any]:
        embeddings = torch.cat([one[None].expand(count, -1, -1) for one in learned])
        seeds = [seed + place for _ in learned for place in range(count)]
        seen = classify(self._bench.sample(model, embeddings, seeds))
        return [seen[start : start + count] for start in range(0, len(seen), count)]


def run(bench: Bench, path: Path, concept: Concept, methods: Sequence[str], sizes: Sizes, seed: int = 0) -> list[Found]:
    """All that the file has, and what is missing of `methods`, written as it comes."""
    found = {one.key: one for one in read_records(path, Found)}
    audit = None
    for method in methods:
        if (method, concept.name) in found:
            continue
        audit = audit or Audit(bench, concept, sizes, path.with_suffix(""), seed)
        started = time.perf_counter()
        one = audit.measure(method)
        found[one.key] = one
        write_records(path, list(found.values()))
        print(
            f"{one.key}: own {one.own}, kept {one.neighbours} {one.others}, inversion {one.inverted_4} {one.inverted_16}, "
            f"{time.perf_counter() - started:.0f} s",
            flush=True,
        )
    return list(found.values())


def _tenths(series: Sequence[float]) -> list[Sequence[float]]:
    size = max(1, len(series) // 10)
    return [series[start : start + size] for start in range(0, len(series), size)]


def _size(eraser: Any) -> int:
    if eraser is None:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return int(eraser.save(Path(folder) / "eraser.safetensors").stat().st_size)
