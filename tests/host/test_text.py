"""Token embeddings as sampling sees them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.sd
import pytest
import torch
from rece_pack.nodes.host.architectures.detection import architecture_of
from rece_pack.nodes.host.errors import WrongConnectionError
from rece_pack.nodes.host.text import encoded_cache
from rece_pack.nodes.host.text.encoded import EncodedTokens
from rece_pack.nodes.host.text.encoder import TextEncoder
from rece_pack.nodes.host.text.reader import TextReader
from rece_pack.rece_ops import InputError
from safetensors.torch import save_file

import nodes as comfy_nodes

LONG = " and ".join(f"a house number {i}" for i in range(20))
PROMPTS = ["", "nudity", "the style of Vincent van Gogh", "a (very) plain car", LONG]


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a textual inversion of three tokens, for CLIP-L and CLIP-G."""
    folder = tmp_path_factory.mktemp("embeddings")
    generator = torch.Generator().manual_seed(0)
    tensors = {"clip_l": torch.randn(3, 768, generator=generator), "clip_g": torch.randn(3, 1280, generator=generator)}
    save_file(tensors, folder / "my_style.safetensors")
    return folder


@pytest.fixture(
    scope="module",
    params=["sd15", pytest.param("sd2", marks=pytest.mark.large), pytest.param("sdxl", marks=pytest.mark.large)],
)
def loaded(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path], embeddings: Path) -> tuple[Any, Any]:
    path = str(checkpoint(request.param))
    model, clip, *_ = comfy.sd.load_checkpoint_guess_config(path, output_vae=False, embedding_directory=str(embeddings))
    return model, clip


def encoder_of(clip: Any, model: Any) -> TextEncoder:
    return TextEncoder(clip, TextReader(model, architecture_of(model)))


def encoded(encoder: TextEncoder, text: str) -> EncodedTokens:
    """The only part of the only stream of tokens."""
    (part,) = encoder.encode(text).streams["text"]
    return part


def as_sampled(clip: Any, text: str) -> torch.Tensor:
    """What the stock CLIPTextEncode node hands to the sampler."""
    with torch.inference_mode():
        return comfy_nodes.CLIPTextEncode().encode(clip, text)[0][0][0][0]


def test_embeddings_are_those_of_the_stock_text_encode_node(loaded: tuple[Any, Any]) -> None:
    model, clip = loaded
    skipped = clip.clone()
    skipped.clip_layer(-3)
    encodings = []
    for one in (clip, skipped):
        encoder = encoder_of(one, model)
        for text in PROMPTS:
            # Parentheses are weights to the node, but plain text in a concept.
            typed = text.replace("(", "\\(").replace(")", "\\)")
            tokens = encoded(encoder, text).tokens
            assert torch.equal(tokens, as_sampled(one, typed))
            encodings.append(tokens)
    assert not torch.equal(encodings[1], encodings[1 + len(PROMPTS)]), "clip skip changed nothing"


def test_a_textual_inversion_in_a_concept_counts(loaded: tuple[Any, Any]) -> None:
    model, clip = loaded
    encoder = encoder_of(clip, model)
    tokens = clip.tokenize("embedding:my_style", disable_weights=True)
    if not any(isinstance(token, torch.Tensor) for windows in tokens.values() for token, *_ in windows[0]):
        pytest.skip("the inversion holds no vectors of this text encoder's size")
    found = encoded(encoder, "art in embedding:my_style")
    assert torch.equal(found.tokens, as_sampled(clip, "art in embedding:my_style"))
    # Start, "art", "in", and three vectors.
    assert found.last_subject == 5


@pytest.mark.parametrize(
    "text", ["embedding:none", "art in embedding:none, red", "embedding:", "a embedding:my_style embedding:none"]
)
def test_an_inversion_that_is_not_there_is_refused(loaded: tuple[Any, Any], text: str) -> None:
    model, clip = loaded
    with pytest.raises(InputError, match=r"names the textual inversion '(none,?)?', which is not in models/embeddings"):
        encoder_of(clip, model).encode(text)
    # The host reads these as plain text.
    for plain in ("art (embedding:none)", "anembedding:none"):
        encoder_of(clip, model).encode(plain)


def test_what_backslashes_do(loaded: tuple[Any, Any]) -> None:
    """One before a parenthesis is dropped, as in a prompt; any other is a character like others."""
    model, clip = loaded
    encoder = encoder_of(clip, model)
    plain = encoded(encoder, "a car (red)").tokens
    assert torch.equal(encoded(encoder, r"a car \(red\)").tokens, plain)
    assert not torch.equal(encoded(encoder, r"a\b").tokens, encoded(encoder, "ab").tokens)


def test_the_last_subject_token_is_the_one_before_end_of_text(loaded: tuple[Any, Any]) -> None:
    model, clip = loaded
    encoder = encoder_of(clip, model)
    assert encoded(encoder, "").last_subject == 0
    assert encoded(encoder, "cat").last_subject == 1
    assert encoded(encoder, "a black cat").last_subject == 3
    long = encoded(encoder, LONG)
    assert long.tokens.shape[0] > 77
    assert 77 < long.last_subject < long.tokens.shape[0] - 1


def test_a_text_is_encoded_once(loaded: tuple[Any, Any]) -> None:
    model, clip = loaded
    encoder = encoder_of(clip, model)
    assert encoder.encode("cat") is encoder.encode("cat")


def forget_everything() -> None:
    encoded_cache._caches.clear()


def counted_passes(clip: Any, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What goes through the text encoder's network from now on."""
    passes: list[object] = []
    network, encode = clip.cond_stage_model, clip.cond_stage_model.encode_token_weights
    monkeypatch.setattr(network, "encode_token_weights", lambda tokens: (passes.append(tokens), encode(tokens))[1])
    return passes


def test_a_later_run_encodes_two_prompts_again_and_what_is_new(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, clip = loaded
    forget_everything()
    first = encoder_of(clip, model)
    before = {"cat": first.encode("cat"), **first.encode_together(["dog", "bird"])}
    passes = counted_passes(clip, monkeypatch)
    later = encoder_of(clip, model)
    assert later.encode("cat") is before["cat"]
    assert later.encode_together(["bird", "cat", "dog"]) == {text: before[text] for text in ("bird", "cat", "dog")}
    assert len(passes) == len(encoded_cache.PROBES)
    later.encode("fish")
    # What sampling gets is not what was encoded with others, which differs by roundings.
    assert torch.equal(encoded(later, "dog").tokens, as_sampled(clip, "dog"))
    assert len(passes) >= len(encoded_cache.PROBES) + 2


@pytest.mark.parametrize("changed", ["clip skip", "patched", "in place"])
def test_a_text_encoder_that_changed_encodes_anew(loaded: tuple[Any, Any], changed: str) -> None:
    model, clip = loaded
    forget_everything()
    encoder_of(clip, model).encode("cat")
    other = clip.clone()
    name = next(key for key in clip.patcher.model_state_dict() if key.endswith("layers.0.mlp.fc1.weight"))
    weight = clip.patcher.model_state_dict()[name]
    kept = weight.clone()
    if changed == "clip skip":
        other.clip_layer(-3)
    elif changed == "patched":
        other.add_patches({name: (torch.ones_like(weight),)}, 1.0)
    else:
        weight.mul_(1.5)
    try:
        assert torch.equal(encoded(encoder_of(other, model), "cat").tokens, as_sampled(other, "cat"))
    finally:
        weight.copy_(kept)


def test_what_a_wrapped_text_encoder_says_is_not_remembered_without_it(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, clip = loaded
    forget_everything()
    encoder_of(clip, model).encode("")
    encode = clip.encode_from_tokens_scheduled
    with monkeypatch.context() as wrapped:
        # The same for everything but what is looked at again.
        answers = {text: encode(clip.tokenize(text)) for text in (*encoded_cache.PROBES, "dog")}
        known = {str(clip.tokenize(text)): answer for text, answer in answers.items()}
        wrapped.setattr(clip, "encode_from_tokens_scheduled", lambda tokens: known.get(str(tokens), answers["dog"]))
        encoder_of(clip, model).encode("cat")
    assert torch.equal(encoded(encoder_of(clip, model), "cat").tokens, as_sampled(clip, "cat"))


def test_what_lies_in_a_file_is_not_remembered(loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, clip = loaded
    forget_everything()
    encoder_of(clip, model).encode("embedding:my_style")
    passes = counted_passes(clip, monkeypatch)
    encoder_of(clip, model).encode("embedding:my_style")
    assert len(passes) == len(encoded_cache.PROBES) + 1


def test_only_so_much_is_remembered(loaded: tuple[Any, Any]) -> None:
    model, clip = loaded
    prompt = encoder_of(clip, model).encode("cat")
    size = encoded_cache._size(prompt)
    cache = encoded_cache.EncodedCache(3 * size)
    for text in "abcd":
        cache.put(text, prompt)
        cache.get("a")
    assert [cache.get(text) is prompt for text in "abcd"] == [True, False, True, True]
    small = encoded_cache.EncodedCache(size - 1)
    small.put("a", prompt)
    assert small.get("a") is None


def test_texts_encoded_together_are_those_encoded_alone(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one pass where windows are all that the model reads (SDXL reads the pooled embedding too)."""
    model, clip = loaded
    forget_everything()
    encoder, alone = encoder_of(clip, model), encoder_of(clip, model)
    passes = counted_passes(clip, monkeypatch)
    known = encoder.encode("cat")
    together = encoder.encode_together(["cat", *PROMPTS, "nudity"])
    pooled = architecture_of(model).name == "SDXL"
    assert PROMPTS[0] == "", "is encoded when a run begins"
    assert len(passes) == len(encoded_cache.PROBES) + 1 + (len(PROMPTS[1:]) if pooled else 1)
    assert list(together) == ["cat", *PROMPTS]
    assert together["cat"] is known
    for text in PROMPTS:
        ours, theirs = together[text].streams, alone.encode(text).streams
        assert ours.keys() == theirs.keys()
        for name, parts in theirs.items():
            for one, other in zip(ours[name], parts, strict=True):
                assert (one.span, one.places.tolist()) == (other.span, other.places.tolist())
                if pooled:
                    assert torch.equal(one.tokens, other.tokens)
                # Sums of at most 4096 products in float32, a few in each of at most 24 layers, of numbers near one.
                assert float((one.tokens - other.tokens).norm()) <= 24 * 4096 * 2.0**-24 * float(other.tokens.norm())


def test_wrong_connections_are_refused(loaded: tuple[Any, Any], checkpoint: Callable[[str], Path]) -> None:
    model, clip = loaded
    with pytest.raises(WrongConnectionError, match="CLIP is None"):
        encoder_of(None, model)
    with pytest.raises(InputError, match=r"fills 1?[0-9] windows .* shorten it"):
        encoder_of(clip, model).encode("word " * 700)
    other = "sd2" if architecture_of(model).name == "SD1" else "sd15"
    _, foreign, *_ = comfy.sd.load_checkpoint_guess_config(str(checkpoint(other)), output_vae=False)
    with pytest.raises(WrongConnectionError, match="connect the CLIP that belongs to the MODEL"):
        encoder_of(foreign, model).encode("cat")
