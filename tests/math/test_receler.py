"""The mathematics of Receler: where a concept is, what adapters may not add elsewhere, and what the published code does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bounds import gamma
from rece_pack.rece_ops import Adapters, EraserFileError, InputError
from rece_pack.rece_ops.training.adapters import TrainedAdapters
from rece_pack.rece_ops.training.localization import (
    attention_share,
    concept_mask,
    grid_of,
    localized_loss,
    mask_grid,
)
from rece_pack.rece_ops.training.objectives import erasing_target
from rece_pack.rece_ops.training.record import RecelerRecord, TrainingRecord
from rece_pack.rece_ops.training.settings import RecelerSettings
from rece_pack.rece_ops.training.state import TrainingState, load_state


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_published_assignment_never_reaches_the_embeddings() -> None:
    """train_receler.py: `emb_n[:, advrs_indices, :].data = advrs_prompt_embs[word_idx].data`, indices being a tensor."""
    embeddings, learned, places = random(1, 8, 4), random(1, 3, 4, seed=1), torch.arange(2, 5)
    before = embeddings.clone()
    embeddings[:, places, :].data = learned.data
    assert torch.equal(embeddings, before)
    embeddings[:, places, :] = learned
    assert torch.equal(embeddings[:, 2:5], learned)


def test_without_a_target_the_erasing_target_is_the_published_one() -> None:
    empty, concept = random(1, 4, 2, 2), random(1, 4, 2, 2, seed=1)
    for push in (0.0, 1.0, 2.0):
        assert torch.equal(erasing_target(concept, empty, push), empty - (push * (concept - empty)))


@pytest.mark.parametrize(
    ("tokens", "latent", "grid"),
    [
        (4096, (64, 64), (64, 64)),
        (256, (64, 64), (16, 16)),
        (64, (64, 64), (8, 8)),
        (1024, (128, 128), (32, 32)),
        (24 * 48, (96, 192), (24, 48)),
        # Odd sizes are rounded up, level by level.
        (9 * 6, (33, 21), (9, 6)),
        (64, (8, 8), (8, 8)),
        (1, (1, 1), (1, 1)),
    ],
)
def test_tokens_lie_as_the_unet_halves_the_picture(tokens: int, latent: tuple[int, int], grid: tuple[int, int]) -> None:
    assert grid_of(tokens, latent) == grid


@pytest.mark.parametrize("tokens", [63, 65, 5000, 0])
def test_other_counts_of_tokens_are_refused(tokens: int) -> None:
    with pytest.raises(InputError, match="which no level of a picture of 64×64 latents has"):
        grid_of(tokens, (64, 64))


def test_the_mask_is_made_of_the_published_maps_and_of_their_likes_elsewhere() -> None:
    sd1 = [(64, 64), (32, 32), (16, 16), (8, 8)]
    assert mask_grid(sd1, (64, 64)) == (16, 16)
    assert mask_grid([(96, 96), (48, 48), (24, 24), (12, 12)], (96, 96)) == (24, 24)
    assert mask_grid([(64, 64), (32, 32)], (128, 128)) == (32, 32)
    assert mask_grid([(48, 96), (24, 48), (12, 24)], (48, 96)) == (12, 24)
    # A small picture: 16 tokens would say little, and the pocket model has only one level.
    assert mask_grid([(16, 16), (8, 8), (4, 4)], (16, 16)) == (8, 8)
    assert mask_grid([(8, 8)], (8, 8)) == (8, 8)
    assert mask_grid([(4, 4), (2, 2)], (4, 4)) == (4, 4)


def test_the_share_of_attention_is_that_of_the_softmax() -> None:
    queries, keys, heads, places = random(2, 6, 8).float(), random(2, 5, 8, seed=1).float(), 2, slice(1, 3)
    found = attention_share(queries, keys, heads, places)
    assert found.shape == (2, 6)
    for row in range(2):
        for token in range(6):
            shares = []
            for head in range(heads):
                part = slice(4 * head, 4 * head + 4)
                scores = (keys[row, :, part].double() @ queries[row, token, part].double()) / 2
                weights = (scores - scores.max()).exp()
                shares.append(float((weights[places] / weights.sum()).mean()))
            # The scores' error moves e^s by as much relatively, twice in a quotient; then a few sums of what is at most 1.
            size = float((keys[row].abs().double() @ queries[row, token].abs().double()).max())
            bound = 2 * gamma(6, torch.float32) * size + gamma(40, torch.float32)
            assert abs(float(found[row, token]) - sum(shares) / heads) <= bound < 1e-4
    # All tokens of the text together get everything.
    whole = attention_share(queries, keys, heads, slice(0, 5)) * 5
    assert (whole - 1).abs().max() <= gamma(40, torch.float32)


def published_mask(maps: list[torch.Tensor], threshold: float) -> torch.Tensor:
    """concept_reg.get_mask for one picture, in our words: minimum to 0, maximum to 1, then the threshold."""
    mean = torch.stack(maps).mean(dim=0)[0]
    scaled = (mean - mean.min()) / (mean.max() - mean.min())
    scaled[scaled >= threshold] = 1
    scaled[scaled < threshold] = 0
    return scaled


def test_the_mask_is_the_published_one() -> None:
    maps = [random(1, 16).exp(), random(1, 16, seed=1).exp()]
    for threshold in (0.1, 0.5, 0.9):
        found = concept_mask(maps, (4, 4), threshold)
        assert found.shape == (1, 1, 4, 4)
        assert torch.equal(found.flatten(), published_mask(maps, threshold))
        assert 0 < found.mean() < 1


def test_each_picture_has_a_mask_of_its_own() -> None:
    one, other = random(1, 16).exp(), random(1, 16, seed=1).exp() * 1000
    both = concept_mask([torch.cat([one, other])], (4, 4), 0.3)
    assert torch.equal(both[:1], concept_mask([one], (4, 4), 0.3))
    assert torch.equal(both[1:], concept_mask([other], (4, 4), 0.3))


def test_a_constant_map_holds_nothing_and_makes_no_nan() -> None:
    mask = concept_mask([torch.full((1, 16), 0.25, dtype=torch.float64)], (4, 4), 0.1)
    assert torch.equal(mask, torch.ones(1, 1, 4, 4, dtype=torch.float64))
    assert float(localized_loss({(4, 4): [random(1, 16, 3)]}, mask)) == 0.0
    # The published code has NaN there, which as a truth value is true: it holds nothing either.
    assert published_mask([torch.full((1, 16), 0.25, dtype=torch.float64)], 0.1).isnan().all()


def test_what_is_added_outside_the_concept_is_counted_and_nothing_else() -> None:
    mask = torch.zeros(1, 1, 2, 3, dtype=torch.float64)
    mask[..., 0, 1] = 1
    output = random(1, 6, 5).requires_grad_()
    loss = localized_loss({(2, 3): [output]}, mask)
    outside = [token for token in range(6) if token != 1]
    exact = float(output.detach()[0, outside].square().mean(dim=1).mean())
    assert abs(float(loss.detach()) - exact) <= gamma(20) * exact
    (slope,) = torch.autograd.grad(loss, output)
    assert not slope[0, 1].any()
    assert slope[0, outside].abs().min() > 0


def test_layers_of_all_sizes_get_the_mask_by_the_nearest_place_and_count_alike() -> None:
    mask = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    mask[..., 0, :] = 1
    fine = torch.zeros(1, 16, 2, dtype=torch.float64)
    fine[0, 8:] = 3.0
    coarse = torch.full((1, 4, 7), 5.0, dtype=torch.float64)
    coarse[0, 2:] = 1.0
    # 9 in the lower half of the fine one, 1 in that of the coarse one; their means, not weighted by size.
    assert float(localized_loss({(4, 4): [fine], (2, 2): [coarse]}, mask)) == (9 + 1) / 2
    assert float(localized_loss({(4, 4): [fine, fine], (2, 2): [coarse]}, mask)) == (9 + 9 + 1) / 3


def test_adapters_add_nothing_before_they_are_trained() -> None:
    found = TrainedAdapters({"a": 6, "b": 4}, 3, torch.Generator().manual_seed(0), torch.device("cpu"))
    part = found.part()
    assert isinstance(part, Adapters)
    assert {layer: (one.dimension, one.width) for layer, one in part.adapters.items()} == {"a": (6, 3), "b": (4, 3)}
    for layer, adapter in part.adapters.items():
        assert not adapter.of(random(5, adapter.dimension).float()).any()
        # As nn.Linear draws: uniform up to 1/√d on both sides, weight and bias alike.
        limit = adapter.dimension**-0.5
        for drawn in (adapter.down, adapter.down_bias):
            assert drawn.abs().max() <= limit, layer
            assert drawn.unique().numel() == drawn.numel()
    assert len(list(found.parameters())) == len(found.named()) == 8
    assert all(parameter.requires_grad for parameter in found.parameters())


def test_trained_adapters_go_on_from_a_copy() -> None:
    one, other = (
        TrainedAdapters({"a": 6}, 3, torch.Generator().manual_seed(seed), torch.device("cpu")) for seed in (0, 1)
    )
    other.load({name: tensor.detach().clone() for name, tensor in one.named().items()})
    assert all(map(torch.equal, other.parameters(), one.parameters()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"adapter_width": 0},
        {"adapter_rate": 0.0},
        {"adapter_rate": float("nan")},
        {"push": -1.0},
        {"sampling_steps": 0},
        {"sampling_steps": 1001},
        {"sampling_guidance": float("inf")},
        {"mask_weight": -0.1},
        {"mask_threshold": 1.5},
        {"mask_threshold": float("nan")},
        {"learned_tokens": 0},
        {"learned_tokens": 76},
        {"inner_steps": 0},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=name):
        RecelerSettings(**wrong)  # type: ignore[arg-type]


def test_a_training_of_one_method_is_none_of_another(tmp_path: Path) -> None:
    told, record = {"method": "Receler"}, RecelerRecord()
    record.add([1.0, 2.0, 3.0, 4.0, 5.0])
    path = TrainingState(told, {"a": torch.zeros(2)}, record).save(tmp_path / "state.safetensors")
    shapes = {"a": torch.Size([2])}
    read = load_state(path, told, shapes, RecelerRecord)
    assert read.record == record
    with pytest.raises(EraserFileError, match="is no training that was stopped"):
        load_state(path, told, shapes, TrainingRecord)
