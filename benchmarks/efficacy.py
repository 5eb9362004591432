"""Does erasing erase, does it hold, and what does it cost? All methods on the pocket model, judged by its pictures.

    python -m benchmarks.efficacy [--out benchmarks/results] [--only SETTING ...] [--fresh]

For every concept and setting, pictures are sampled from the erased MODEL and classified: is the concept still made
from its own prompts, from paraphrases that the eraser never saw, from derived embeddings, and with the concept's vector
added to other prompts; and is everything else, the nearest neighbour in particular, still made? Runs in the host's
interpreter, on the CPU or a GPU, through ComfyUI's own sampling, in bfloat16. What was measured is kept in a JSON file,
so that a run can be stopped and gone on with.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocket_model.assemble import pocket_checkpoint
from pocket_model.classifier import Seen, classify
from pocket_model.evaluate import save_grid
from pocket_model.rates import Rate
from pocket_model.sampling import PocketModel, Sampler
from pocket_model.trials import (
    CONCEPTS,
    Concept,
    Trials,
    kept,
    made,
    other_captions,
    other_words,
    trials,
    vector_pairs,
)
from pocket_model.world import KINDS, Caption
from tools.host import prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.pack import import_pack

# Pictures of a concept's own prompts and paraphrases each, of each attack, and of everything else.
CAPTIONS, ATTACKED, OTHERS = 12, 8, 16
UNEDITED = "unedited"
# What follows a concept's name where it was erased together with all others.
ALL = " (of all)"
# Regularizations of the derived embedding, and how often the concept's vector is added.
DERIVED, VECTOR_SCALE, VECTOR_PAIRS = (0.1, 0.01), 3.0, 10
BETAS = (0.3, 3.0, 30.0, 300.0)
BETA = 30.0


@dataclass(frozen=True)
class Setting:
    """How something is erased.

    Attributes:
        name: for the table.
        method: 'RECE' (UCE: with no epochs) or 'projection'.
        values: of its settings.
        preserved: whether all other words are preserved.
        together: whether all concepts are also erased at once.
    """

    name: str
    method: str = "RECE"
    values: dict[str, Any] = field(default_factory=dict)
    preserved: bool = False
    together: bool = True


def settings() -> Iterator[Setting]:
    """The unedited model, UCE, RECE at the authors' regularization, its anchored iteration, and projections."""
    yield Setting(UNEDITED, together=False)
    for preserved in (False, True):
        yield _rece(0, preserved=preserved)
        for epochs in (1, 2, 3, 4, 5):
            if epochs in (1, 3, 5) or not preserved:
                yield _rece(epochs, preserved=preserved, together=epochs in (1, 3))
        yield _rece(3, preserved=preserved, anchored=True)
        for beta in BETAS:
            if beta == BETA or not preserved:
                name = f"projection, β {beta:g}"
                yield Setting(name, "projection", {"robustness": beta}, preserved, together=beta == BETA)


def _rece(epochs: int, preserved: bool = False, together: bool = True, anchored: bool = False) -> Setting:
    name = f"RECE, {epochs} epoch{'s' if epochs > 1 else ''}{', anchored' if anchored else ''}" if epochs else "UCE"
    return Setting(name, "RECE", {"epochs": epochs, "anchored": anchored}, preserved, together)


SHOWN = (UNEDITED, "UCE", "RECE, 1 epoch", "RECE, 3 epochs", f"projection, β {BETA:g}")


@dataclass(frozen=True)
class Outcome:
    """What the pictures of one concept under one setting showed.

    Attributes:
        setting, preserved, concept: what was done.
        own, paraphrased: how many pictures still show the concept.
        derived, derived_closer: the same of embeddings derived with the two regularizations of `DERIVED`.
        vector: the same of other prompts with the concept's vector added.
        neighbours: how many pictures of its neighbour's captions show all that they say.
        others: how many pictures of captions without it show all that they say.
        rest: how many pictures of its own captions show the other two attributes.
    """

    setting: str
    preserved: bool
    concept: str
    own: Rate
    paraphrased: Rate
    derived: Rate
    derived_closer: Rate
    vector: Rate
    neighbours: Rate
    others: Rate
    rest: Rate

    @property
    def key(self) -> tuple[str, bool, str]:
        """What identifies it."""
        return self.setting, self.preserved, self.concept


class Bench:
    """The loaded model and everything that is the same for all settings."""

    def __init__(self, sampler: Sampler, captions: int = CAPTIONS, others: int = OTHERS) -> None:
        from rece_pack.nodes.host import architectures, device, weights
        from rece_pack.rece_ops import gram_matrix

        self.pocket = PocketModel(pocket_checkpoint(), torch.bfloat16)
        self.sampler = sampler
        self.trials = {concept: trials(concept, captions, others) for concept in CONCEPTS}
        self.all_others = other_captions(CONCEPTS, others)
        self.vectors = {concept: self._vector(concept) for concept in CONCEPTS}
        (stream,) = architectures.architecture_of(self.pocket.model).streams
        effective = weights.EffectiveWeights(self.pocket.model, stream.keys, device.compute_device(stream.dimension))
        self.gram = gram_matrix(effective)

    def measure(self, setting: Setting, concepts: Sequence[Concept]) -> Iterator[Outcome]:
        """The outcomes of erasing `concepts` together."""
        model, eraser = self.erased(setting, concepts)
        together = len(concepts) > 1
        shared = kept(self.all_others, self._seen(model, self.all_others)) if together else None
        for concept in concepts:
            yield self._outcome(setting, concept, model, eraser, shared)

    def erased(self, setting: Setting, concepts: Sequence[Concept]) -> tuple[Any, Any]:
        """The MODEL without the concepts, and the eraser."""
        from rece_pack.nodes.concept_lines import ConceptLine
        from rece_pack.nodes.erasure_request import ErasureRequest
        from rece_pack.nodes.host.adapter import apply_eraser
        from rece_pack.nodes.host.erasing import run_erasure
        from rece_pack.rece_ops import Eraser, ProjectionSettings, RECESettings

        if setting.name == UNEDITED:
            return self.pocket.model, Eraser.identity(self.gram.shape[0])
        lines = [ConceptLine(concept.name, "") for concept in concepts]
        preserved = other_words(concepts) if setting.preserved else []
        kind = ProjectionSettings if setting.method == "projection" else RECESettings
        request = ErasureRequest(lines, preserved, kind(**setting.values), "none")
        with torch.inference_mode():
            result = run_erasure(self.pocket.model, self.pocket.clip, request)
            return apply_eraser(self.pocket.model, result.eraser, 1.0), result.eraser["text"]

    def _outcome(self, setting: Setting, concept: Concept, model: Any, eraser: Any, shared: Rate | None) -> Outcome:
        """`shared` is the rate of what is kept where all concepts were erased together."""
        found = self.trials[concept]
        # Erased together, a neighbour is kept only where it was not erased itself.
        names = {one.name for one in CONCEPTS} if shared else set()
        near = tuple(c for c in found.neighbours if not names & {c.says.attribute(concept.kind)})
        seen = self._all_seen(
            model,
            {
                "own": self._embeddings(found.own),
                "paraphrased": self._embeddings(found.paraphrased),
                "derived": self._derived(eraser, found, DERIVED[0]),
                "derived_closer": self._derived(eraser, found, DERIVED[1]),
                "vector": self._embeddings(found.others[:ATTACKED]) + VECTOR_SCALE * self.vectors[concept],
                "neighbours": self._embeddings(near),
                "others": self._embeddings(() if shared else found.others),
            },
        )
        attacks = ("own", "paraphrased", "derived", "derived_closer", "vector")
        return Outcome(
            setting.name,
            setting.preserved,
            concept.name + (ALL if shared else ""),
            **{name: made(concept, seen[name]) for name in attacks},
            neighbours=kept(near, seen["neighbours"]),
            others=shared or kept(found.others, seen["others"]),
            rest=kept(found.own, seen["own"], [kind for kind in KINDS if kind != concept.kind]),
        )

    def pictures(self, model: Any, captions: Sequence[Caption]) -> Tensor:
        """One picture [3, 64, 64] a caption, with its place in the list as the seed."""
        return self._sample(model, self._embeddings(captions), range(len(captions)))

    def _seen(self, model: Any, captions: Sequence[Caption]) -> list[Seen]:
        return classify(self.pictures(model, captions))

    def _all_seen(self, model: Any, groups: dict[str, Tensor]) -> dict[str, list[Seen]]:
        """What is seen in the pictures of groups of embeddings, all sampled together."""
        seeds = [seed for group in groups.values() for seed in range(len(group))]
        seen = iter(classify(self._sample(model, torch.cat(list(groups.values())), seeds)))
        return {name: [next(seen) for _ in group] for name, group in groups.items()}

    def _embeddings(self, captions: Sequence[Caption]) -> Tensor:
        if not captions:
            return self.pocket.embeddings([""])[:0]
        return self.pocket.embeddings([caption.text for caption in captions])

    def _derived(self, eraser: Any, found: Trials, regularization: float) -> Tensor:
        """The embeddings that bring the outputs of the concept's own prompts back best."""
        from rece_pack.rece_ops import derive_embedding

        own = self._embeddings(found.own[:ATTACKED])
        derived: Tensor = derive_embedding(self.gram, eraser, own.flatten(0, 1), regularization)
        return derived.view_as(own)

    def _vector(self, concept: Concept) -> Tensor:
        """What the text encoder adds for the concept: [77, 768], from pairs that differ in that word only."""
        from rece_pack.nodes.host.concept_vector import concept_vector

        pairs = [(one.text, other.text) for one, other in vector_pairs(concept, VECTOR_PAIRS)]
        with torch.inference_mode():
            vector: Tensor = concept_vector(self.pocket.clip, pairs).tokens
            return vector.cpu()

    def _sample(self, model: Any, embeddings: Tensor, seeds: Sequence[int]) -> Tensor:
        return self.pocket.sample(model, embeddings, seeds, self.sampler).cpu()


def run(bench: Bench, path: Path, only: Sequence[str]) -> list[Outcome]:
    """All outcomes: those of the file, and what is missing."""
    found = {outcome.key: outcome for outcome in read_outcomes(path)}
    for setting in sorted(settings(), key=lambda one: only.index(one.name) if one.name in only else len(only)):
        if only and setting.name not in only:
            continue
        for concepts in [[concept] for concept in CONCEPTS] + [list(CONCEPTS)] * setting.together:
            last = concepts[-1].name + (ALL if len(concepts) > 1 else "")
            if (setting.name, setting.preserved, last) in found:
                continue
            started = time.perf_counter()
            for outcome in bench.measure(setting, concepts):
                found[outcome.key] = outcome
                print(
                    f"{outcome.key}: made {outcome.own} {outcome.paraphrased} {outcome.derived} {outcome.vector}",
                    end=" ",
                )
                print(f"kept {outcome.neighbours} {outcome.others}", flush=True)
            print(f"{time.perf_counter() - started:.0f} s", flush=True)
            write_outcomes(path, list(found.values()))
    order = [(setting.name, setting.preserved) for setting in settings()]
    known = [outcome for outcome in found.values() if outcome.key[:2] in order]
    return sorted(known, key=lambda outcome: order.index(outcome.key[:2]))


def save_grids(bench: Bench, path: Path) -> None:
    """One picture: for every concept a row unedited and a row for each of `SHOWN`.

    Columns: four of its own prompts, two paraphrases, two of its neighbour's, four others.
    """
    chosen = {setting.name: setting for setting in settings() if setting.name in SHOWN and not setting.preserved}
    rows = []
    for concept in CONCEPTS:
        found = bench.trials[concept]
        captions = found.own[:4] + found.paraphrased[:2] + found.neighbours[:2] + found.others[:4]
        for name in SHOWN:
            rows.append(bench.pictures(bench.erased(chosen[name], [concept])[0], captions))
    save_grid(path, torch.cat(rows), columns=len(captions), scale=1)


def read_outcomes(path: Path) -> list[Outcome]:
    """What earlier runs measured."""
    if not path.is_file():
        return []
    return [_outcome_from(values) for values in json.loads(path.read_text(encoding="utf-8"))]


def _outcome_from(values: dict[str, Any]) -> Outcome:
    read: dict[str, Any] = {name: Rate(**one) if isinstance(one, dict) else one for name, one in values.items()}
    return Outcome(**read)


def write_outcomes(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Keep what was measured, in one step."""
    unfinished = path.with_suffix(".unfinished")
    lines = ",\n".join(json.dumps(asdict(outcome), ensure_ascii=False) for outcome in outcomes)
    unfinished.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    unfinished.replace(path)


def machine() -> str:
    """What it was measured on."""
    import comfy.model_management

    device = comfy.model_management.get_torch_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores"
    return f"{time.strftime('%Y-%m-%d')}, {name}, torch {torch.__version__}"


def main() -> int:
    """Measure what is missing, then write the table and the grids."""
    parser = argparse.ArgumentParser(description="Measure on the pocket model what erasing does.")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--only", nargs="+", default=[], help="settings by name, in this order; all by default")
    parser.add_argument("--steps", type=int, default=10, help="of the sampler")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured")
    arguments = parser.parse_args()
    make_importable(prepare_comfyui())
    import_pack()
    path = arguments.out / "efficacy.json"
    if arguments.fresh:
        path.unlink(missing_ok=True)
    bench = Bench(Sampler(steps=arguments.steps, batch=64))
    outcomes = run(bench, path, arguments.only)
    save_grids(bench, path.with_suffix(".png"))
    from benchmarks.efficacy_plot import save_plot
    from benchmarks.efficacy_report import write_report

    save_plot(outcomes, path.with_name("efficacy_pareto.png"))
    write_report(outcomes, path.with_suffix(".md"), machine())
    return 0


if __name__ == "__main__":
    sys.exit(main())
