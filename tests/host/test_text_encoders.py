"""A prompt's own tokens in what every text encoder makes of it, and an erasure with each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bounds import applied, gamma, unit
from rece_pack.nodes.host.architectures.detection import Architecture, architecture_of
from rece_pack.nodes.host.architectures.sources import TokenSource
from rece_pack.nodes.host.architectures.table import FAMILIES
from rece_pack.nodes.host.errors import UnsupportedModelError, WrongConnectionError
from rece_pack.nodes.host.jobs.apply import apply_eraser
from rece_pack.nodes.host.jobs.assess import assess
from rece_pack.nodes.host.jobs.derive import derive_conditioning
from rece_pack.nodes.host.jobs.erase import ErasureResult, erase_concepts
from rece_pack.nodes.host.patching.forwards import add_forwards
from rece_pack.nodes.host.session import Session
from rece_pack.nodes.host.text.alignment import pair_tokens
from rece_pack.nodes.host.text.encoded import EncodedTokens
from rece_pack.nodes.host.text.encoder import TextEncoder
from rece_pack.nodes.host.text.reader import TextReader
from rece_pack.nodes.host.text.spans import Span, Spans, tokenize
from rece_pack.nodes.reporting.sentences import erasure_report
from rece_pack.nodes.request.concept_lines import ConceptLine
from rece_pack.nodes.request.erasure_request import ErasureRequest
from rece_pack.nodes.request.methods import assessment_plan, plan_with
from rece_pack.rece_ops import EraserSet, InputError, ProjectionSettings, RECESettings
from small_models import SMALL
from small_text_encoders import ENCODERS
from torch import Tensor

TEXT = "a red cat"
# Small models that read what these text encoders make: all but SD3, whose text is as large as in the real one.
ERASED = ["Flux", "Mochi", "AuraFlow", "Wan 2.1", "Hunyuan Video", "HiDream", "Z-Image", "Qwen-Image", "HunyuanDiT"]


# With so little held back, the pairs that the edit was given show in what is left of the concept.
FIRST_EDIT = RECESettings(epochs=0, edit_regularization=1e-3, preserve_scale=1e-3)


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    """Nodes run without gradients."""
    with torch.no_grad():
        yield


@pytest.fixture(scope="module", params=ENCODERS)
def named(request: pytest.FixtureRequest) -> tuple[str, Any]:
    return request.param, ENCODERS[request.param].clip()


def ids_of(clip: Any, text: str) -> dict[str, list[int]]:
    return {
        name: [token for window in windows for token, *_ in window] for name, windows in tokenize(clip, text).items()
    }


def decoded(clip: Any, name: str, tokens: list[int]) -> str:
    tokenizer = getattr(clip.tokenizer, name, None) or getattr(clip.tokenizer, f"clip_{name}")
    text = "".join(tokenizer.inv_vocab[token] for token in tokens)
    for mark in ("▁", "Ġ", "</w>", "##"):
        text = text.replace(mark, "")
    return text.replace(" ", "")


def test_the_span_holds_the_prompt_and_nothing_else(named: tuple[str, Any]) -> None:
    _, clip = named
    spans = Spans(clip)
    for text in (TEXT, "cat", "the red dog"):
        for name, span in spans.of(text).items():
            tokens = ids_of(clip, text)[name]
            assert decoded(clip, name, tokens[span.first : span.end]) == text.replace(" ", ""), name
            assert span.count == len(tokens)


def test_an_empty_prompt_has_no_tokens_of_its_own(named: tuple[str, Any]) -> None:
    name, clip = named
    for empty, full in zip(Spans(clip).of("").values(), Spans(clip).of(TEXT).values(), strict=True):
        assert empty.first == full.first
        # This one gets a space instead of nothing, from the host itself.
        assert empty.end - empty.first == (1 if name == "Hunyuan Video 1.5" else 0)


def test_parentheses_are_plain_text_to_every_tokenizer(named: tuple[str, Any]) -> None:
    _, clip = named
    typed, escaped = "a (red) cat", "a \\(red\\) cat"
    assert ids_of(clip, typed) == {
        name: [token for window in windows for token, *_ in window] for name, windows in clip.tokenize(escaped).items()
    }
    assert ids_of(clip, escaped) == ids_of(clip, typed)
    assert all(
        weight == 1.0 for windows in tokenize(clip, typed).values() for window in windows for _, weight in window
    )


def encoder_and_model(name: str, clip: Any) -> tuple[TextEncoder, Any]:
    model = SMALL[small_model(name)].model()
    return TextEncoder(clip, TextReader(model, architecture_of(model))), model


def own_ids(clip: Any, name: str, text: str) -> list[int]:
    span = Spans(clip).of(text)[name]
    return ids_of(clip, text)[name][span.first : span.end]


def small_model(name: str) -> str:
    return {"Flux": "Flux dev"}.get(name, name)


def test_the_row_of_the_last_subject_token_is_found(named: tuple[str, Any]) -> None:
    """Where a token knows nothing of later ones, another last word changes the rows from the last subject token on."""
    name, clip = named
    if not ENCODERS[name].causal:
        pytest.skip("every row changes with every word")
    encoder, _ = encoder_and_model(name, clip)
    texts = (TEXT, "a red dog")
    one, other = (encoder.encode(text).streams for text in texts)
    (tokenizer,) = ENCODERS[name].causal
    ids, other_ids = (ids_of(clip, text)[tokenizer] for text in texts)
    differ = next(place for place, pair in enumerate(zip(ids, other_ids, strict=False)) if pair[0] != pair[1])
    for stream, ((part,), (changed,)) in (
        (stream, (one[stream], other[stream])) for stream in one if stream not in ("t5xxl", "pooled")
    ):
        # The template that the text encoder drops is as long in both.
        place = differ - (len(ids) - len(part.tokens))
        assert torch.equal(part.tokens[:place], changed.tokens[:place]), stream
        assert not torch.equal(part.tokens[place], changed.tokens[place]), stream
        assert part.span.first <= place <= part.last_subject < len(part.tokens)
        assert (
            ids[differ : differ + part.span.end - place] == own_ids(clip, tokenizer, TEXT)[-(part.span.end - place) :]
        )


def test_masked_tokens_and_rows_of_zeros_are_left_out(named: tuple[str, Any]) -> None:
    name, clip = named
    if name not in ("Mochi", "LTX-Video", "Cosmos", "Wan 2.1"):
        pytest.skip("this architecture reads padding")
    encoder, _ = encoder_and_model(name, clip)
    ((part,),) = encoder.encode(TEXT).streams.values()
    # Four tokens and the end of the text.
    assert len(part.tokens) == 5
    assert part.span == Span(0, 4, 5)
    whole = encoder.conditioning(TEXT)[0][0][0]
    assert len(whole) > 5
    assert torch.equal(part.tokens, whole[part.places])


def test_sd3_reads_clip_and_t5_one_after_the_other() -> None:
    clip = ENCODERS["SD3"].clip()
    case = SMALL["SD3"]
    # What CLIP-L pools, and zeros in the place of CLIP-G's.
    pooled = {"adm_in_channels": 24 + 1280}
    unet = {**case.unet, **pooled, "context_embedder_config": _wide(case.unet["context_embedder_config"])}
    model = type(case)(case.configuration, unet, case.latent, case.tokens, {}).model()
    encoder = TextEncoder(clip, TextReader(model, architecture_of(model)))
    parts = encoder.encode(TEXT).streams["text"]
    assert [(len(part.tokens), part.span.first, part.span.end) for part in parts] == [(77, 1, 4), (77, 0, 4)]
    whole = encoder.conditioning(TEXT)[0][0][0]
    assert torch.equal(torch.cat([part.tokens for part in parts]), whole)
    # CLIP is filled up with zeros to the width of T5.
    assert not parts[0].tokens[:, 2048:].any()
    assert parts[1].tokens[:, 2048:].any()
    clip.cond_stage_model.t5xxl = None
    (only,) = TextEncoder(clip, TextReader(model, architecture_of(model))).encode(TEXT).streams["text"]
    assert torch.equal(only.tokens, parts[0].tokens)


def _wide(embedder: dict[str, Any]) -> dict[str, Any]:
    return {**embedder, "params": {**embedder["params"], "in_features": 4096}}


def erased(name: str, **request: Any) -> tuple[Any, Any, ErasureResult, ErasureRequest]:
    model, clip = SMALL[small_model(name)].model(), ENCODERS[name].clip()
    # One concept: two of them, and all padding, do not fit into the few dimensions of a small model.
    lines = [ConceptLine("a red cat", "a dog")]
    asked = ErasureRequest(lines, ["the red dog"], **{"plan": plan_with(FIRST_EDIT), **request})
    return model, clip, erase_concepts(Session.open(model, clip), asked), asked


def expected_streams(name: str, architecture: Architecture) -> set[str]:
    """All; but HiDream's small text encoder lacks both CLIPs, and pools to zeros whatever the prompt says."""
    return {stream.name for stream in architecture.streams} - ({"pooled"} if name == "HiDream" else set())


@pytest.mark.parametrize("name", ["Flux", "Hunyuan Video"])
def test_the_pooled_embedding_can_be_left_alone(name: str) -> None:
    model, _, result, request = erased(name, pooled=False)
    assert set(result.streams) == set(result.eraser) == {"text"}
    assert "also reads the text through its pooled text embedding, which was left as it is" in erasure_report(
        request, result, 1.0
    )
    _, _, with_pooled, _ = erased(name)
    both = with_pooled.eraser.combined(result.eraser, {})
    assert torch.equal(both["pooled"].matrix(), with_pooled.eraser["pooled"].matrix())
    (layer,) = (stream.keys[0] for stream in architecture_of(model).streams if stream.pooled)
    assert layer not in apply_eraser(Session.open(model), result.eraser, 1.0).patches


def residual_rounding(model: Any, name: str, result: ErasureResult) -> float:
    """How far any residual ‖Tc − c*‖_G / ‖c − c*‖_G of a stream may be off, in float64: of Σ|W||x| and all that it sums."""
    found, architecture = result.streams[name], architecture_of(model)
    (stream,) = (one for one in architecture.streams if one.name == name)
    weights = torch.cat([weight.double().abs() for weight in Session.open(model).weights(stream).values()])
    transform, errors = found.erasure.eraser.matrix().double(), []
    for pair, measured in zip(found.erasure.pairs, found.measures.concepts, strict=True):
        concept, target = (rows.double() for rows in pair.subject_tokens())
        sizes = ((concept.abs() @ transform.abs().T + target.abs()) @ weights.T).square().sum()
        difference = concept - target
        whole = ((difference @ found.erasure.gram) * difference).sum()
        lengths = 2 * (len(weights) + 3 * len(transform)) + concept.numel()
        # Of an energy E of the whole W, the root of E / W moves by half of its error over √(E W).
        errors.append(gamma(lengths) * float(sizes / whole) * (1 / measured.residual + measured.residual))
    return max(errors)


@pytest.mark.parametrize("name", ERASED)
def test_concepts_are_erased_from_every_stream(name: str, tmp_path: Path) -> None:
    model, clip, result, request = erased(name)
    architecture = architecture_of(model)
    changed = [stream for stream in architecture.streams if stream.name in expected_streams(name, architecture)]
    assert set(result.streams) == set(result.eraser) == {stream.name for stream in changed}
    assert len(result.changes) == sum(len(stream.keys) for stream in changed)
    # Erasures behind a norm or a network say so: CONDITIONING is no place for them.
    assert result.eraser.metadata["fronts"] == (["text"] if name in ("Z-Image", "Qwen-Image", "HunyuanDiT") else [])
    for stream in result.streams.values():
        assert all(concept.residual < 0.25 for concept in stream.measures.concepts), stream.measures.concepts
    report = erasure_report(request, result, 1.0)
    count = len(set(result.streams) - {"pooled"})
    assert (f"key and value weights in {count} text streams" in report) == (count > 1)
    assert ("and the pooled embedding (every number" in report) == ("pooled" in result.streams)

    result.eraser.save(tmp_path / "eraser.safetensors")
    loaded = EraserSet.load(tmp_path / "eraser.safetensors")
    patched = apply_eraser(Session.open(model), loaded, 1.0)
    assert set(patched.patches) == {key for stream in changed for key in stream.keys}

    found = assess(Session.open(model, clip), loaded, request.concepts, request.preserved, assessment_plan("UCE", 0.1))
    assert set(found.spectra) == set(result.streams)
    rounding = max(residual_rounding(model, stream.name, result) for stream in changed)
    for one, other in zip(found.measures.concepts, result.measures.concepts, strict=True):
        assert abs(one.residual - other.residual) <= rounding < 2**-10 * other.residual


@pytest.mark.parametrize("name", ["Flux", "HiDream"])
def test_concepts_are_projected_out_of_every_stream(name: str) -> None:
    _, _, result, request = erased(name, plan=plan_with(ProjectionSettings()))
    for stream in result.streams.values():
        assert stream.erasure.eraser.rank == stream.erasure.directions.shape[1]
    assert "a projection along" in erasure_report(request, result, 1.0)


def moved_by_rounding(model: Any, clip: Any, erasers: EraserSet, embedding: Tensor) -> float:
    """How far the derived embedding moves when every erased weight is as far off as float32 explains.

    Up or down at random, and by a multiple of it that is large compared with the rounding of that weight itself.
    """
    generator, magnified = torch.Generator().manual_seed(0), 64.0
    moved = apply_eraser(Session.open(model), erasers, 1.0)
    for stream in architecture_of(model).erased_by(erasers):
        eraser = erasers[stream.name]
        for key, weight in Session.open(model).weights(stream).items():
            error = applied(weight.float(), eraser.left, eraser.right).error.float()
            signs = torch.randint(0, 2, error.shape, generator=generator) * 2 - 1
            wide = model.model.get_parameter(key).shape[1] - error.shape[1]
            moved.add_patches({key: ("diff", (F.pad(magnified * error * signs, (0, wide)),))}, 1.0)
    ((found, _),) = derive_conditioning(Session.open(moved, clip), "cat", 0.1, None, None).conditioning
    return float((found - embedding).norm()) / magnified


@pytest.mark.parametrize("name", ["Flux", "Mochi", "HiDream", "Qwen-Image"])
def test_what_brings_a_concept_back_is_derived_for_every_stream(name: str) -> None:
    model, clip, result, _ = erased(name, plan=plan_with(RECESettings(epochs=0)))
    patched = apply_eraser(Session.open(model), result.eraser, 1.0)
    by_eraser = derive_conditioning(Session.open(model, clip), "cat", 0.1, result.eraser, None)
    inside = model.clone()
    for stream in architecture_of(model).erased_by(result.eraser):
        add_forwards(inside, stream.keys, result.eraser[stream.name])
    assert set(by_eraser.found) == set(result.streams)
    ((embedding, values),) = by_eraser.conditioning
    moved = moved_by_rounding(model, clip, result.eraser, embedding)
    for one in (patched, inside):
        ((again, _),) = derive_conditioning(Session.open(one, clip), "cat", 0.1, None, None).conditioning
        # Ways to the same weights, of which these are rounded to float32, as is the embedding in the end.
        rounding = 2 * unit(torch.float32) * float(embedding.norm()) + moved
        assert float((embedding - again).norm()) <= rounding < 2**-4 * float(embedding.norm())
    original = TextEncoder(clip, TextReader(model, architecture_of(model))).conditioning("cat")[0]
    assert not torch.equal(embedding, original[0])
    assert embedding.shape == original[0].shape
    if name == "HiDream":
        assert not torch.equal(values["conditioning_llama3"], original[1]["conditioning_llama3"])


def test_what_cannot_be_derived_is_said_before_anything_is_computed() -> None:
    model, clip, result, _ = erased("Flux", plan=plan_with(RECESettings(epochs=0)))
    session, other = Session.open(model, clip), Session.open(erased("Mochi")[0])
    with pytest.raises(InputError, match="The concept is empty"):
        derive_conditioning(session, " \n", 0.1, result.eraser, None)
    with pytest.raises(
        WrongConnectionError, match=r"The original is Mochi, but MODEL is Flux: connect the model that was"
    ):
        derive_conditioning(session, "cat", 0.1, None, other)


def test_hunyuandit_has_no_embedding_to_give_back() -> None:
    model, clip, result, _ = erased("HunyuanDiT")
    with pytest.raises(UnsupportedModelError, match="through a network, so there is no embedding"):
        derive_conditioning(Session.open(model, clip), "cat", 0.1, result.eraser, None)


def test_an_eraser_for_the_same_text_encoder_but_another_model_is_refused() -> None:
    _, _, result, _ = erased("Flux")
    with pytest.raises(WrongConnectionError, match=r"made for Flux .*, but the MODEL is Chroma"):
        apply_eraser(Session.open(SMALL["Chroma"].model()), result.eraser, 1.0)


def test_a_clip_without_the_text_encoder_is_refused() -> None:
    clip = ENCODERS["Qwen-Image"].clip()
    with pytest.raises(WrongConnectionError, match="has the text encoders qwen25_7b, but Flux reads t5xxl"):
        encoder_and_model("Flux", clip)[0].encode("cat")
    with pytest.raises(WrongConnectionError, match=r"lacks the text encoder that HiDream reads as 'llama\.0'"):
        encoder_and_model("HiDream", ENCODERS["Flux"].clip())[0].encode("cat")


def test_a_prompt_that_is_too_long_for_a_concept_is_refused() -> None:
    with pytest.raises(InputError, match=r"has \d+ tokens; 616 are the limit"):
        encoder_and_model("Wan 2.1", ENCODERS["Wan 2.1"].clip())[0].encode("cat dog " * 400)


def part(values: list[float], first: int, end: int, windows: bool = False) -> EncodedTokens:
    tokens = torch.tensor(values, dtype=torch.float32)[:, None]
    return EncodedTokens(tokens, Span(first, end, len(values)), TokenSource(windows=windows), torch.arange(len(values)))


# Before the prompt 1 and 2, then the prompt, then the end 8 and padding 9.
LONG = part([1, 2, 31, 32, 33, 8, 9], 2, 5)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (part([1, 2, 41, 8, 9], 2, 3), [1, 2, 41, 41, 41, 8, 9]),
        (part([1, 2, 41, 42, 43, 44, 8, 9], 2, 6), [1, 2, 42, 43, 44, 8, 9]),
        (part([1, 2, 8, 9], 2, 2), [1, 2, 2, 2, 2, 8, 9]),
        (part([1, 2, 8, 9, 9, 9, 9], 2, 2), [1, 2, 2, 2, 2, 8, 9]),
        (part([1, 2, 41, 8], 2, 3), [1, 2, 41, 41, 41, 8, 8]),
    ],
    ids=["shorter", "longer", "empty", "padded", "nothing after"],
)
def test_tokens_are_paired_by_what_they_are(target: EncodedTokens, expected: list[float]) -> None:
    pair = pair_tokens("x", LONG, target, 1.0)
    assert pair.target[:, 0].tolist() == expected
    assert pair.concept_start == pair.target_start == 4


def test_an_empty_target_without_a_start_token_pairs_with_its_end() -> None:
    pair = pair_tokens("x", part([31, 32, 8, 9], 0, 2), part([8, 9, 9, 9], 0, 0), 1.0)
    assert pair.target[:, 0].tolist() == [8, 8, 8, 9]


def test_windows_are_paired_place_by_place_as_published() -> None:
    concept = part([1, 31, 32, 8, 8, 8, 1, 33, 8, 8, 8, 8], 1, 8, windows=True)
    target = part([1, 41, 8, 8, 8, 8], 1, 2, windows=True)
    pair = pair_tokens("x", concept, target, 1.0)
    assert pair.target[:, 0].tolist() == [1, 41, 8, 8, 8, 8] * 2
    assert (pair.concept_start, pair.target_start) == (7, 1)


def test_every_family_without_windows_has_a_text_encoder_here() -> None:
    covered = {SMALL[small_model(name)].configuration for name in ENCODERS}
    missing = {
        family.name
        for family in FAMILIES
        if not covered & set(family.configurations)
        and not all(
            source.windows or source.pooled
            for stream in family.streams_of({"llama_layers": []})
            for source in stream.sources
        )
    }
    # Their text encoders are those of others above, or of a later ComfyUI only.
    assert missing <= {"Chroma", "Cosmos Predict2", "Flux.2", "Kandinsky 5", "CogVideoX", "Ernie-Image"}
