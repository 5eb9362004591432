"""How every method of the audit erases a concept; an ERASER that takes long to make is kept in a folder."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.audit.receler import trained
from benchmarks.audit.records import (
    CLOSED_FORMS,
    FEW_SHOTS,
    HARDENED,
    PROJECTION,
    PRUNINGS,
    RANDOM,
    RECELERS,
    STACKS,
    VARIANTS,
)
from benchmarks.audit.sizes import TRAINED_ON, Sizes
from benchmarks.erased_models import UNEDITED, UNNAMED, WORD, Bench
from pocket_model.networks import encode
from pocket_model.trials import Concept, Trials, trials, without
from pocket_model.world import Caption

_ERASER, _SECONDS = "eraser.safetensors", "seconds.txt"


@dataclass(frozen=True)
class Erased:
    """What a method made of the pocket model.

    Attributes:
        model, clip: to make pictures with.
        eraser: where the method has one.
        seconds: that the erasure took.
        size: of the ERASER file, or of what is changed in CLIP, in bytes.
        word: what is said in the concept's place.
    """

    model: Any
    clip: Any
    eraser: Any = None
    seconds: float = 0.0
    size: int = 0
    word: str = ""


class Erasures:
    """Erasures of one concept.

    Args:
        bench: the model.
        concept: to erase.
        sizes: how much is done.
        folder: where ERASERs and trainings are kept.
        seed: of all of them.
    """

    def __init__(self, bench: Bench, concept: Concept, sizes: Sizes, folder: Path, seed: int) -> None:
        self._bench, self._concept, self._sizes, self._folder, self._seed = bench, concept, sizes, folder, seed

    def of(self, method: str) -> Erased:
        """The erasure by `method`; may leave the process where a training in pieces is not done yet."""
        pocket = self._bench.pocket
        if method in (UNEDITED, UNNAMED):
            return Erased(pocket.model, pocket.clip, word=WORD if method == UNNAMED else "")
        if method in FEW_SHOTS:
            return self._unlearned(FEW_SHOTS[method])
        eraser, seconds = self._receler(method) if method in RECELERS else self._timed(method)
        return Erased(self._bench.with_erasers(eraser), pocket.clip, eraser, seconds, _file_size(eraser))

    def embeddings(self, erased: Erased, captions: Sequence[Caption]) -> Tensor:
        """Token embeddings of captions, as the erased model's person types them."""
        said = without(self._concept, captions, erased.word) if erased.word else captions
        if erased.clip is self._bench.pocket.clip:
            return self._bench.embeddings(said)
        if not said:
            return self._bench.embeddings([])
        with torch.inference_mode():
            return torch.cat(
                [encode(erased.clip, [one.text for one in said[at : at + 24]]) for at in range(0, len(said), 24)]
            )

    def _timed(self, method: str) -> tuple[Any, float]:
        from rece_pack.rece_ops import EraserSet

        if method == RANDOM:
            return self._measured(self._random)
        if method in CLOSED_FORMS:
            return self._measured(lambda: self._bench.erasers(CLOSED_FORMS[method], [self._concept]))
        if method == PROJECTION:
            return self._measured(self._projection)
        if method in STACKS:
            first, second = self.of(PROJECTION), self.of(STACKS[method])
            # Parts of other weights: neither comes before the other.
            return EraserSet({**first.eraser, **second.eraser}), first.seconds + second.seconds
        if method in PRUNINGS:
            return self._kept(method, lambda: self._pruned(PRUNINGS[method]))
        return self._kept(method, lambda: self._trained({} if method == HARDENED else VARIANTS[method]))

    def _kept(self, method: str, make: Callable[[], Any]) -> tuple[Any, float]:
        """What an earlier process made, or what is made now."""
        from rece_pack.rece_ops import EraserSet

        folder = self._folder / method
        if not (folder / _ERASER).is_file():
            eraser, seconds = self._measured(make)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _SECONDS).write_text(f"{seconds}\n", encoding="utf-8", newline="\n")
            eraser.save(folder / _ERASER)
        return EraserSet.load(folder / _ERASER), float((folder / _SECONDS).read_text(encoding="utf-8"))

    def _measured(self, make: Callable[[], Any]) -> tuple[Any, float]:
        started = time.perf_counter()
        found = make()
        return found, time.perf_counter() - started

    def _random(self) -> Any:
        from rece_pack.rece_ops import Eraser, EraserSet

        (name, like), *_ = self._projection().transforms.items()
        generator = torch.Generator().manual_seed(self._seed)
        left, right = (
            torch.randn(factor.shape, generator=generator, dtype=torch.float64) for factor in (like.left, like.right)
        )
        size = float((like.left.double() @ like.right.double()).norm() / (left @ right).norm())
        return EraserSet({name: Eraser(left * size, right)})

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
        from rece_pack.nodes.request.training_request import PictureSettings
        from rece_pack.rece_ops.training.settings import HardenedSettings

        sizes, pocket = self._sizes, self._bench.pocket
        settings = HardenedSettings(
            steps=sizes.steps,
            batch=sizes.erased,
            retained_batch=sizes.kept,
            adversaries=sizes.adversaries,
            seed=self._seed,
            pictures_at_once=2 * sizes.erased + sizes.kept,
        )
        request = self._request(
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

    def _unlearned(self, settings: dict[str, Any]) -> Erased:
        from rece_pack.nodes.host.jobs.unlearn import unlearn_in_text_encoder
        from rece_pack.nodes.host.session import Session
        from rece_pack.nodes.request.training_request import PictureSettings
        from rece_pack.rece_ops.training.settings import UnlearningSettings

        pocket, sizes = self._bench.pocket, self._sizes
        request = self._request(
            UnlearningSettings(seed=self._seed, **settings), PictureSettings(4, 8, 64, sizes.picture_steps, 2.0)
        )
        started = time.perf_counter()
        with torch.inference_mode():
            found = unlearn_in_text_encoder(Session.open(pocket.model, pocket.clip, pocket.vae), request)
        patcher: Any = found.clip.patcher
        changed, weights = patcher.patches.keys() - pocket.clip.patcher.patches.keys(), patcher.model_state_dict()
        size = sum(weights[key].numel() * weights[key].element_size() for key in changed)
        return Erased(pocket.model, found.clip, None, time.perf_counter() - started, size)

    def _request(self, settings: Any, pictures: Any) -> Any:
        from rece_pack.nodes.request.training_request import training_request

        known = trials(self._concept, self._sizes.contexts, self._sizes.preserved, TRAINED_ON)
        return training_request(
            f"{self._concept.name} -> {self._concept.target}",
            self._contexts(known),
            "\n".join(dict.fromkeys(one.text for one in (*known.neighbours, *known.others))),
            settings,
            pictures,
        )


def _tenths(series: Sequence[float]) -> list[Sequence[float]]:
    size = max(1, len(series) // 10)
    return [series[start : start + size] for start in range(0, len(series), size)]


def _file_size(eraser: Any) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return int(eraser.save(Path(folder) / _ERASER).stat().st_size)
