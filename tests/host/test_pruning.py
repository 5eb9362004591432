"""Erasers that prune: the job in this process on the pocket model, and the node in the real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.utils
import numpy as np
import pytest
import torch
from bounds import gamma
from pocket_in_fp8 import pocket_in_fp8
from rece_pack.nodes.combine_erasers import CombineErasers
from rece_pack.nodes.host.architectures.table import FAMILIES
from rece_pack.nodes.host.errors import UnsupportedModelError, WrongConnectionError
from rece_pack.nodes.host.jobs import look_at_neurons
from rece_pack.nodes.host.jobs.apply import apply_eraser
from rece_pack.nodes.host.jobs.erase_conditioning import erase_conditioning
from rece_pack.nodes.host.jobs.export_lora import lora_tensors
from rece_pack.nodes.host.jobs.prune import Pruned, prune_concepts
from rece_pack.nodes.host.patching.weight_patch import SparseChangeAdapter
from rece_pack.nodes.host.patching.weights import effective_weight
from rece_pack.nodes.host.session import Session
from rece_pack.nodes.host.training.neurons import NeuronActivity, feed_forward_outputs
from rece_pack.nodes.host.training.pictures import make_pictures
from rece_pack.nodes.reporting.pruning import pruning_report
from rece_pack.nodes.reporting.sentences import eraser_description
from rece_pack.nodes.request.pruning_request import PruningRequest, pruning_request
from rece_pack.nodes.request.training_request import PictureSettings
from rece_pack.rece_ops import EraserSet, InputError, SparseChange, SparseNumbers
from rece_pack.rece_ops.methods.pruning import PruningSettings
from untouched import assert_untouched, state_of

from pocket_model.assemble import pocket_checkpoint
from tools.graph import Graph, Node
from tools.server import ComfyServer

FEW = PictureSettings(concept=2, other=0, size=64, steps=4, guidance=1.0)
SETTINGS = PruningSettings(share=0.1, first_steps=2)
CPU = torch.device("cpu")

Loaded = tuple[Any, Any]


@pytest.fixture(scope="module")
def loaded(comfyui: Path) -> Loaded:
    """MODEL and CLIP of the pocket model."""
    model, clip, *_ = comfy.sd.load_checkpoint_guess_config(str(pocket_checkpoint()), output_vae=False)
    model.set_model_compute_dtype(torch.float32)
    return model, clip


@pytest.fixture(autouse=True)
def _as_nodes_run() -> Iterator[None]:
    with torch.inference_mode():
        yield


def asked(settings: PruningSettings = SETTINGS, concepts: str = "red -> yellow", **pictures: Any) -> PruningRequest:
    return pruning_request(concepts, "a {} circle\na {} star", settings, replace(FEW, **pictures))


@pytest.fixture(scope="module")
def session(loaded: Loaded) -> Session:
    """Of the pocket model; what is encoded once is known to all tests."""
    return Session.open(*loaded)


def prune(session: Session, request: PruningRequest | None = None) -> Pruned:
    return prune_concepts(session, request or asked())


def change_of(pruned: Pruned) -> SparseChange:
    (change,) = pruned.eraser.sparse_changes.values()
    return change


@pytest.fixture(scope="module")
def pruned(session: Session) -> Pruned:
    with torch.inference_mode():
        return prune(session)


def test_it_prunes_and_leaves_the_model_alone(session: Session) -> None:
    before = state_of(session.model.model)
    found = prune(session)
    assert_untouched(session.model.model, before)
    change, shapes = change_of(found), feed_forward_outputs(session.model)
    assert set(change.changes) <= set(shapes)
    assert sum(own for own, _ in found.counts.values()) == change.count > 0
    assert sum(whole for _, whole in found.counts.values()) == sum(rows * columns for rows, columns in shapes.values())
    assert set(found.counts) == {"input block 1", "middle block 1", "output block 0", "output block 1"}
    # Two steps of a tenth of each row at most.
    assert all(len(one.places) <= 2 * one.shape[0] * (one.shape[1] // 10) for one in change.changes.values())
    told = found.eraser.provenance
    assert (told.method, told.concepts, told.targets) == ("pruned", ("red",), ("yellow",))
    assert found.drifts["concept"] > 0
    report = pruning_report(asked(), found)
    assert report.startswith(f"Pruned 1 concept: {change.count:,} of ")


def test_the_same_seed_prunes_the_same(session: Session, pruned: Pruned) -> None:
    again = change_of(prune(session))
    assert again.changes.keys() == change_of(pruned).changes.keys()
    for key, one in change_of(pruned).changes.items():
        assert all(torch.equal(*pair) for pair in zip(again.changes[key][1:], one[1:], strict=True))
    other = change_of(prune(session, asked(replace(SETTINGS, seed=1))))
    assert any(not torch.equal(one.places, other.changes[key].places) for key, one in change_of(pruned).changes.items())


def test_the_norms_are_those_of_all_activations(session: Session) -> None:
    """Against the activations themselves, which the job does not keep."""
    shapes = feed_forward_outputs(session.model)
    norms = NeuronActivity(session.model, {key: columns for key, (_, columns) in shapes.items()}, 2)
    kept: dict[tuple[str, int], list[torch.Tensor]] = {}
    step = 0

    def begins(number: int) -> None:
        nonlocal step
        step = number
        norms.begin(number)

    def keep(key: str) -> Any:
        return lambda layer, inputs: kept.setdefault((key, step), []).append(inputs[0].double().clone())

    layers = {key: comfy.utils.get_attr(session.model.model, key.removesuffix(".weight")) for key in shapes}
    handles = [layer.register_forward_pre_hook(keep(key)) for key, layer in layers.items()]
    try:
        with norms.listening():
            make_pictures(session, ["a red star", "a blue circle"], FEW, 0, lambda *_: None, 3, begins)
    finally:
        for handle in handles:
            handle.remove()
    assert {number for _, number in kept} == {0, 1, 2}, "the third is beyond what is counted"
    for key, (_, columns) in shapes.items():
        for number in (0, 1):
            tokens = torch.cat([one.reshape(-1, columns) for one in kept[key, number]])
            exact = torch.nn.functional.normalize(tokens, dim=1).square().sum(dim=0).sqrt()
            # Every square of a token's number has the roundings of its length, a division and a square; then all are summed.
            bound = gamma(columns + len(tokens) + 8, torch.float32) * exact
            assert ((norms.norms(key)[number].double() - exact).abs() <= bound).all()
            # A sum of all tokens and a division.
            bound = gamma(len(tokens) + 2, torch.float32) * tokens.abs().mean(dim=0)
            assert ((norms.means(key)[number].double() - tokens.mean(dim=0)).abs() <= bound).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("low_memory", [False, True])
def test_pruned_numbers_are_zero_in_the_model_and_all_others_as_they_were(
    pruned: Pruned, dtype: torch.dtype, low_memory: bool
) -> None:
    with torch.inference_mode(False):
        model, *_ = comfy.sd.load_checkpoint_guess_config(
            str(pocket_checkpoint()), output_vae=False, output_clip=False, model_options={"dtype": dtype}
        )
    patched = apply_eraser(Session.open(model), pruned.eraser, 1.0)
    for key, numbers in change_of(pruned).changes.items():
        stored = comfy.utils.get_attr(model.model, key)
        assert stored.dtype == dtype
        (_, adapter, *_), *others = patched.patches[key]
        assert not others
        if low_memory:
            # As the host rebuilds it where it moves patches to the device by itself.
            adapter = type(adapter)(adapter.loaded_keys, adapter.weights)
            found = adapter.calculate_weight(stored.float(), key, 1.0, 1.0, None, None)
        else:
            found = effective_weight(patched, key, CPU)
        expected = stored.float().flatten()
        expected[numbers.places.long()] = 0.0
        assert torch.equal(found.flatten(), expected)


def test_strength_and_noise_and_functions_are_applied(session: Session) -> None:
    found = prune(session, asked(replace(SETTINGS, fill="noise")))
    half = apply_eraser(session, found.eraser, 0.5)
    for key, numbers in change_of(found).changes.items():
        before, places = effective_weight(session.model, key, CPU).flatten(), numbers.places.long()
        after = effective_weight(half, key, CPU).flatten()
        # W + (a − W)/2: one rounding of the difference, one of the sum, of the sizes |a| and |W|.
        bound = gamma(2, torch.float32) * (before[places].abs() + numbers.added.abs())
        assert ((after[places] - (before[places] + numbers.added) / 2).abs() <= bound).all()
        spread = numbers.added.square().mean().sqrt() / before.square().mean().sqrt()
        assert 0.5 < spread < 2
    key, numbers = next(iter(change_of(found).changes.items()))
    adapter = SparseChangeAdapter(set(), (numbers.places, numbers.removed, numbers.added))
    weight = effective_weight(session.model, key, CPU)
    nothing = adapter.calculate_weight(weight.clone(), key, 1.0, 1.0, None, lambda change: change * 0)
    assert torch.equal(nothing, weight)


def test_what_a_projection_leaves_is_between_nothing_and_all(session: Session, pruned: Pruned) -> None:
    """At the places of the plain pruning: the projection moves the concept's predictions, and less than zeros do."""
    found = prune(session, asked(replace(SETTINGS, fill="projection")))
    for key, numbers in change_of(found).changes.items():
        assert torch.equal(numbers.places, change_of(pruned).changes[key].places)
        stood = effective_weight(session.model, key, CPU).flatten()[numbers.places.long()]
        assert 0 < float(numbers.added.norm()) < float(stood.norm())
    assert 0 < found.drifts["concept"] < pruned.drifts["concept"]
    assert ", of which was left what reads no difference" in pruning_report(
        asked(replace(SETTINGS, fill="projection")), found
    )


def test_adversaries_find_more_numbers_and_leave_the_model_alone(session: Session, pruned: Pruned) -> None:
    settings = replace(SETTINGS, adversaries=2, adversary_steps=3)
    before = state_of(session.model.model)
    found = prune(session, asked(settings))
    assert_untouched(session.model.model, before)
    plain, more = change_of(pruned), change_of(found)
    for key, numbers in plain.changes.items():
        assert set(numbers.places.tolist()) <= set(more.changes[key].places.tolist())
    assert found.found_by_adversaries == more.count - plain.count > 0
    report = pruning_report(asked(settings), found)
    assert (
        f"{found.found_by_adversaries:,} were found only with 2 learned contexts for each concept, of 3 updates"
        in report
    )
    assert found.eraser.provenance.settings["adversaries"] == 2


def test_adversaries_learn_against_what_is_pruned(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """While they learn and are looked at, the layers have the change; what they learn from is the MODEL's own."""
    seen: list[tuple[str, bool]] = []
    shapes = feed_forward_outputs(session.model)
    key, (_, columns) = next(iter(shapes.items()))
    layer = comfy.utils.get_attr(session.model.model, key.removesuffix(".weight"))
    probe = torch.ones(1, 1, columns)

    def watch(name: str, module: Any) -> None:
        real = getattr(module, name)

        def watched(*args: Any, **more: Any) -> Any:
            # Whether this layer, called here and now, does what the weights of MODEL say.
            with torch.no_grad():
                plain = torch.nn.functional.linear(probe.to(layer.weight), layer.weight, layer.bias)
                seen.append((name, not torch.equal(layer(probe.to(layer.weight)), plain)))
            return real(*args, **more)

        monkeypatch.setattr(module, name, watched)

    watch("make_pictures", look_at_neurons)
    watch("invert_latents", look_at_neurons)
    watch("make_pictures_of", look_at_neurons)
    prune(session, asked(replace(SETTINGS, adversaries=1, adversary_steps=1)))
    assert seen == [
        ("make_pictures_of", False),
        ("make_pictures_of", False),
        ("make_pictures", False),
        ("invert_latents", True),
        ("make_pictures_of", True),
        ("make_pictures_of", True),
    ]


def test_the_drift_is_that_of_the_pruned_models_predictions(session: Session) -> None:
    request = pruning_request("red -> yellow", "a {} star", PruningSettings(share=0.2, first_steps=1), FEW)
    found = prune(session, request)
    patched = apply_eraser(session, found.eraser, 1.0)
    prompts = ["a red star"]
    predicted = [first_prediction(session.on(model), prompts) for model in (session.model, patched)]
    plain, changed = (one.double() for one in predicted)
    exact = float((changed - plain).norm() / plain.norm())
    # The same sums in another order, in half of float32's digits at least.
    assert abs(found.drifts["concept"] - exact) < torch.finfo(torch.float32).eps ** 0.5 * exact
    assert found.drifts["concept"] > 0.01


def first_prediction(session: Session, prompts: list[str]) -> torch.Tensor:
    """What MODEL takes for the clean latents in the first step."""
    kept: list[torch.Tensor] = []

    def keep(apply: Any, told: dict[str, Any]) -> torch.Tensor:
        kept.append(apply(told["input"], told["timestep"], **told["c"]))
        return kept[-1]

    watched = session.model.clone()
    watched.model_options = {**watched.model_options, "model_function_wrapper": keep}
    make_pictures(session.on(watched), prompts, FEW, 0, lambda *_: None, 1)
    return kept[0]


def test_a_wrapper_that_another_pack_put_on_the_model_still_counts(session: Session) -> None:
    calls = []

    def wrapper(apply: Any, told: dict[str, Any]) -> torch.Tensor:
        calls.append(1)
        found: torch.Tensor = apply(told["input"], told["timestep"], **told["c"])
        return found

    model = session.model.clone()
    model.model_options = {**model.model_options, "model_function_wrapper": wrapper}
    found = prune(session.on(model), asked(replace(SETTINGS, first_steps=1), concept=1))
    # Two sides of a pair, and three groups that are predicted twice.
    assert len(calls) == 2 + 2 * 3
    assert model.model_options["model_function_wrapper"] is wrapper
    assert found.drifts["concept"] > 0


def test_a_pruning_that_is_cancelled_leaves_the_model_alone(session: Session) -> None:
    before = state_of(session.model.model)
    for share, adversaries in ((0.1, 0), (0.9, 0), (0.6, 1)):
        request = asked(replace(SETTINGS, adversaries=adversaries, adversary_steps=5))

        def cancel(value: int, total: int, preview: Any, node_id: Any = None, share: float = share) -> None:
            if value > share * total:
                comfy.model_management.interrupt_current_processing()

        comfy.utils.set_progress_bar_global_hook(cancel)
        try:
            with pytest.raises(comfy.model_management.InterruptProcessingException):
                prune(session, request)
        finally:
            comfy.utils.set_progress_bar_global_hook(None)
        assert_untouched(session.model.model, before)


@pytest.mark.large
def test_several_concepts_are_pruned_together(session: Session, pruned: Pruned) -> None:
    both = change_of(prune(session, asked(concepts="red -> yellow\nstriped -> plain")))
    for key, one in change_of(pruned).changes.items():
        assert set(one.places.tolist()) < set(both.changes[key].places.tolist())


def test_the_eraser_is_saved_combined_and_described(session: Session, pruned: Pruned, tmp_path: Path) -> None:
    read = EraserSet.load(pruned.eraser.save(tmp_path / "eraser.safetensors"))
    assert f"Sparse change 'pruned': {change_of(pruned).count:,} numbers of 4 weights." in eraser_description(read)
    whole = apply_eraser(session, read, 1.0)
    (twice,) = CombineErasers.execute(read, pruned.eraser, 1.0, 1.0).args
    again = apply_eraser(session, twice, 1.0)
    for key in change_of(pruned).changes:
        assert torch.equal(effective_weight(whole, key, CPU), effective_weight(again, key, CPU))


def test_what_cannot_hold_it_says_so(session: Session, pruned: Pruned) -> None:
    with pytest.raises(UnsupportedModelError, match="which no LoRA of low rank can hold"):
        lora_tensors(session, pruned.eraser, 1.0, 0, torch.float32)
    with pytest.raises(WrongConnectionError, match="which no CONDITIONING can hold"):
        erase_conditioning(session.encoder.conditioning("a star"), pruned.eraser, 1.0)
    key, numbers = next(iter(change_of(pruned).changes.items()))
    resized = SparseNumbers((1, numbers.shape[0] * numbers.shape[1]), *numbers[1:])
    with pytest.raises(WrongConnectionError, match="but MODEL has one of"):
        apply_eraser(session, EraserSet({"pruned": SparseChange({key: resized})}), 1.0)
    with pytest.raises(WrongConnectionError, match="but MODEL has none of that name"):
        apply_eraser(session, EraserSet({"pruned": SparseChange({"other.weight": numbers})}), 1.0)


def test_what_cannot_be_pruned_is_refused_before_any_work(session: Session) -> None:
    flux = next(family for family in FAMILIES if family.name == "Flux")
    other = replace(session, architecture=replace(session.architecture, family=flux))
    with pytest.raises(UnsupportedModelError, match="This MODEL is Flux, for which no eraser can be made by pruning"):
        prune_concepts(other, asked())
    with pytest.raises(InputError, match="less than one of the 1280 numbers"):
        prune(session, asked(replace(SETTINGS, share=0.0005)))
    with pytest.raises(InputError, match="fills more than one window"):
        prune(session, pruning_request("red", "{} " + "star " * 80, SETTINGS, FEW))
    with pytest.raises(InputError, match="first_steps is 2, but a picture has picture_steps = 1"):
        asked(steps=1)
    with pytest.raises(InputError, match="pictures is 0"):
        asked(concept=0)


def test_fp8_is_refused(session: Session) -> None:
    with pytest.raises(UnsupportedModelError, match="quantised \\(float8_e4m3fn\\)"):
        prune(Session.open(pocket_in_fp8(), session.connected_clip))


def test_a_model_that_reads_no_text_is_refused(session: Session) -> None:
    deaf, weights = session.model.clone(), session.model.model.state_dict()
    deaf.add_patches({key: (-weights[key].float(),) for key in session.architecture.keys})
    with pytest.raises(InputError, match=r"No neuron is more active .* \('red' and 'yellow'\)"):
        prune(session.on(deaf))


def shown(graph: Graph, loaded: Node, **inputs: Any) -> tuple[Node, Node]:
    """The node, and its report."""
    small = {"pictures": 1, "size": 64, "first_steps": 1, "picture_steps": 2}
    node = graph.node(
        "RECE_PruneConcept",
        model=loaded.out(0),
        clip=loaded.out(1),
        **{"concepts": "nude -> dressed", "share": 0.2, "seed": 0, "contexts": "a {} woman", **small, **inputs},
    )
    return node, graph.node("PreviewAny", source=node.out(2))


WAYS: dict[str, dict[str, Any]] = {
    "sd15": {"fill": "projection", "adversaries": 1, "adversary_steps": 2},
    "sd2": {"fill": "noise"},
    "sdxl": {"fill": "projection", "adversaries": 1, "adversary_steps": 2},
}


@pytest.mark.parametrize(
    "kind", ["sd15", pytest.param("sd2", marks=pytest.mark.large), pytest.param("sdxl", marks=pytest.mark.large)]
)
def test_the_node_prunes_in_the_real_server(server: ComfyServer, checkpoint: Callable[[str], Path], kind: str) -> None:
    name = server.link_model(checkpoint(kind))
    graph = Graph()
    loaded = graph.load(name)
    node, report = shown(graph, loaded, **WAYS[kind])
    graph.node(
        "CheckpointSave", model=node.out(0), clip=loaded.out(1), vae=loaded.out(2), filename_prefix=f"pruned/{kind}"
    )
    graph.node("RECE_SaveEraser", eraser=node.out(1), file_name=f"pruned_{kind}", if_exists="replace")
    before, after = graph.sample(loaded, "a nude woman"), graph.sample(loaded, "a nude woman", model=node)
    result = server.run(graph.prompt, timeout=600)
    (told,) = result.outputs[report.id]["text"]
    assert told.startswith("Pruned 1 concept: ")
    (untouched,), (erased,) = result.images(before), result.images(after)
    assert not np.array_equal(untouched, erased)
    (saved,) = (server.base / "output" / "pruned").glob(f"{kind}_*.safetensors")
    again = Graph()
    written, loaded = again.load(server.link_model(saved)), again.load(name)
    eraser = again.node("RECE_LoadEraser", eraser_name=f"pruned_{kind}.safetensors")
    applied = again.node("RECE_ApplyEraser", model=loaded.out(0), eraser=eraser, strength=1.0)
    samples = [
        again.sample(written, "a nude woman"),
        again.sample(loaded, "a nude woman", model=applied),
        again.sample(loaded, "a nude woman"),
    ]
    result = server.run(again.prompt, timeout=600)
    from_checkpoint, from_file, plain = (result.images(one)[0] for one in samples)
    assert np.array_equal(plain, untouched)
    assert np.array_equal(from_file, erased)
    assert np.array_equal(from_checkpoint, erased)
