"""The table: where every architecture that ComfyUI can load reads the text, or why it is refused.

Adding an architecture is adding an entry to `FAMILIES` here and a case to tests/host/small_models.py. The erasure is exact
for every entry: the text readers are linear layers that read the tokens themselves, or what a `TokenStage` makes of each token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ....rece_ops import POOLED_STREAM
from .sources import POOLED, TokenSlot, TokenSource
from .token_stages import LearnedPadding, Norm

_ALL_TOKENS = TokenSource()


@dataclass(frozen=True)
class StreamRow:
    """Tokens of one kind, and the layers that read them.

    Attributes:
        readers: names of linear layers below `diffusion_model`, as regular expressions.
        name: as eraser files call the stream.
        sources: where its tokens come from, in this order.
        dimension: the entry of the model's configuration that says how large a token is; where it is empty, the
            text readers say it.
        columns: how many of the text readers' first columns read the tokens, where the rest reads something else.
        unless: a layer, as a regular expression; a model that has it is refused for `because`.
    """

    readers: tuple[str, ...]
    name: str = "text"
    sources: tuple[TokenSource, ...] = (_ALL_TOKENS,)
    dimension: str = ""
    columns: int | None = None
    unless: str = ""
    because: str = ""

    @property
    def pooled(self) -> bool:
        """Whether they read the pooled embedding."""
        return self.sources[0].pooled


Streams = tuple[StreamRow, ...]


@dataclass(frozen=True)
class Family:
    """An entry of the table: the model configurations of ComfyUI that read the text in the same way.

    Attributes:
        name: as reports and eraser files call it.
        configurations: class names in ComfyUI's `supported_models`.
        streams: what it reads; a function of the model's configuration where that decides.
        pooled: the layer that reads the pooled text embedding, a second path for a concept; a model may lack it.
        leak: what else reads the text and cannot be erased from, as part of a sentence.
        base_version: what LoRA tools call this base (`ss_base_model_version`); empty where they have no name for it.
        unet: whether it is Stable Diffusion's UNet, whose layers LoRA files name as diffusers does, and which the inversion
            attack knows; the others are named in LoRA files as they are in ComfyUI.
    """

    name: str
    configurations: tuple[str, ...]
    streams: Streams | Callable[[Mapping[str, Any]], Streams]
    pooled: StreamRow | None = None
    leak: str = ""
    base_version: str = ""
    unet: bool = False

    def streams_of(self, configuration: Mapping[str, Any]) -> Streams:
        """The streams of a model with that `unet_config`, the pooled one last."""
        streams = self.streams if isinstance(self.streams, tuple) else self.streams(configuration)
        return streams if self.pooled is None else (*streams, self.pooled)

    def streams_named(self, names: Iterable[str]) -> Streams:
        """The streams of the model for which an ERASER with those streams was made."""
        read = [name.removeprefix(_LLAMA) for name in names if name.startswith(_LLAMA)]
        return self.streams_of({"llama_layers": [int(layer) for layer in read if layer.isdecimal()]})


def _one(*readers: str, source: TokenSource = _ALL_TOKENS) -> Streams:
    """A single stream."""
    return (StreamRow(readers, sources=(source,)),)


def _pooled(reader: str, columns: int | None = None) -> StreamRow:
    """The layer that reads the pooled text embedding."""
    return StreamRow((reader,), POOLED_STREAM, (TokenSource(slot=TokenSlot(POOLED)),), columns=columns)


_BLOCK = r"(?:input_blocks\.\d+|middle_block|output_blocks\.\d+)\.1\.transformer_blocks\.\d+"
# The first attention reads the text where a block's self-attention is disabled (the x4 upscaler): see `architectures`.
_UNET = (
    StreamRow(
        (rf"{_BLOCK}\.attn[12]\.to_[kv]",),
        sources=(TokenSource(windows=True),),
        dimension="context_dim",
    ),
)
# What follows are sizes and the place of the crop.
_SDXL_POOLED = _pooled(r"label_emb\.0\.0", columns=1280)
_HUNYUAN = _one(r"txt_in\.input_embedder", r"txt_in\.c_embedder\.in_layer", source=TokenSource(("llama", "qwen25_7b")))
_T5 = ("t5xxl",)
_LLAMA = "llama."


def _hidream(configuration: Mapping[str, Any]) -> Streams:
    """One stream for every layer of Llama that is read, by one text reader or by several, and one for T5."""
    layers: list[int] = list(configuration["llama_layers"])
    llama = [
        StreamRow(
            tuple(rf"caption_projection\.{place}\.linear" for place, read in enumerate(layers) if read == layer),
            f"{_LLAMA}{layer}",
            (TokenSource(("llama",), slot=TokenSlot("conditioning_llama3", layer), modules=("llama",)),),
        )
        for layer in sorted(set(layers))
    ]
    t5 = StreamRow((rf"caption_projection\.{len(layers)}\.linear",), "t5xxl", (TokenSource(_T5, modules=_T5),))
    return (*llama, t5)


FAMILIES = (
    Family("SD1", ("SD15", "SD15_instructpix2pix"), _UNET, base_version="sd_v1", unet=True),
    Family(
        "SD2",
        ("SD20", "SD21UnclipL", "SD21UnclipH", "SD_X4Upscaler", "LotusD"),
        _UNET,
        base_version="sd_v2",
        unet=True,
    ),
    Family(
        "SDXL",
        ("SDXL", "SSD1B", "Segmind_Vega", "KOALA_700M", "KOALA_1B", "SDXL_instructpix2pix"),
        _UNET,
        _SDXL_POOLED,
        base_version="sdxl_base_v1-0",
        unet=True,
    ),
    Family(
        "SDXL refiner",
        ("SDXLRefiner",),
        _UNET,
        _SDXL_POOLED,
        base_version="sdxl_base_v1-0",
        unet=True,
    ),
    Family(
        "Stable Cascade",
        ("Stable_Cascade_C",),
        _one("clip_txt_mapper", source=TokenSource(windows=True)),
        _pooled("clip_txt_pooled_mapper"),
    ),
    Family(
        "SD3",
        ("SD3",),
        (
            StreamRow(
                ("context_embedder",),
                sources=(
                    TokenSource(("l", "g"), windows=True, modules=("clip_l", "clip_g")),
                    TokenSource(_T5, modules=_T5),
                ),
                unless=r"context_processor\..*",
                because="it processes the text in layers of its own (context_processor) before it reads it",
            ),
        ),
        _pooled(r"y_embedder\.mlp\.0"),
    ),
    Family("AuraFlow", ("AuraFlow",), _one("cond_seq_linear")),
    Family("PixArt", ("PixArtAlpha", "PixArtSigma"), _one(r"y_embedder\.y_proj\.fc1", source=TokenSource(_T5))),
    Family(
        "HunyuanDiT",
        ("HunyuanDiT", "HunyuanDiT1"),
        (
            StreamRow(
                (r"blocks\.\d+\.attn2\.kv_proj",),
                sources=(
                    TokenSource(("hydit_clip",), stage=LearnedPadding("attention_mask", first=True)),
                    TokenSource(
                        ("mt5xl",),
                        slot=TokenSlot("conditioning_mt5xl"),
                        stage=LearnedPadding("attention_mask_mt5xl", first=False, network="mlp_t5"),
                    ),
                ),
            ),
        ),
        leak="a pooling attention (pooler)",
    ),
    Family(
        "Flux",
        ("Flux", "FluxInpaint", "FluxSchnell"),
        _one("txt_in", source=TokenSource(_T5, stage=Norm("txt_norm"))),
        _pooled(r"vector_in\.in_layer"),
        base_version="flux1",
    ),
    Family("Flux.2", ("Flux2",), _one("txt_in", source=TokenSource(stage=Norm("txt_norm")))),
    Family("Chroma", ("Chroma", "ChromaRadiance"), _one("txt_in", source=TokenSource(_T5))),
    Family(
        "Mochi",
        ("GenmoMochi",),
        _one("t5_yproj", r"t5_y_embedder\.to_(?:q|kv)", source=TokenSource(_T5, mask="attention_mask")),
    ),
    Family(
        "LTX-Video", ("LTXV",), _one(r"caption_projection\.linear_1", source=TokenSource(_T5, mask="attention_mask"))
    ),
    Family(
        "Hunyuan Video",
        ("HunyuanVideo", "HunyuanVideoI2V", "HunyuanVideoSkyreelsI2V"),
        _HUNYUAN,
        _pooled(r"vector_in\.in_layer"),
    ),
    # Their ByT5 reads only what a prompt has in quotation marks, to write it into the picture: no concept is there.
    Family("Hunyuan Image", ("HunyuanImage21", "HunyuanImage21Refiner"), _HUNYUAN),
    Family("Hunyuan Video 1.5", ("HunyuanVideo15", "HunyuanVideo15_SR_Distilled"), _HUNYUAN),
    Family(
        "Cosmos",
        ("CosmosT2V", "CosmosI2V"),
        _one(r"blocks\.block\d+\.blocks\.1\.block\.attn\.to_[kv]\.0", source=TokenSource(_T5, mask="attention_mask")),
    ),
    Family(
        "Cosmos Predict2",
        ("CosmosT2IPredict2", "CosmosI2VPredict2"),
        _one(r"blocks\.\d+\.cross_attn\.[kv]_proj", source=TokenSource(_T5)),
    ),
    Family("Lumina 2", ("Lumina2",), _one(r"cap_embedder\.1", source=TokenSource(stage=Norm("cap_embedder.0")))),
    Family(
        "Z-Image",
        ("ZImage", "ZImagePixelSpace"),
        _one(r"cap_embedder\.1", source=TokenSource(stage=Norm("cap_embedder.0"))),
    ),
    Family(
        "Wan",
        (
            "WAN21_T2V",
            "WAN21_I2V",
            "WAN21_FunControl2V",
            "WAN21_Camera",
            "WAN22_Camera",
            "WAN21_Vace",
            "WAN21_HuMo",
            "WAN22_S2V",
            "WAN22_Animate",
            "WAN22_T2V",
            "WAN21_CausalAR_T2V",
            "WAN_Animate2",
            "WAN21_FlowRVS",
            "WAN21_SCAIL",
            "WAN21_SCAIL2",
            "WAN22_WanDancer",
        ),
        _one(r"text_embedding\.0"),
    ),
    Family("HiDream", ("HiDream",), _hidream, _pooled(r"p_embedder\.pooled_embedder\.linear_1")),
    Family(
        "Omnigen2",
        ("Omnigen2",),
        _one(
            r"time_caption_embed\.caption_embedder\.1",
            source=TokenSource(stage=Norm("time_caption_embed.caption_embedder.0")),
        ),
    ),
    Family("Qwen-Image", ("QwenImage",), _one("txt_in", source=TokenSource(stage=Norm("txt_norm")))),
    Family(
        "Kandinsky 5",
        ("Kandinsky5", "Kandinsky5Image"),
        _one(r"text_embeddings\.in_layer", source=TokenSource(("qwen25_7b",))),
        _pooled(r"pooled_text_embeddings\.in_layer"),
    ),
    Family("CogVideoX", ("CogVideoX_T2V", "CogVideoX_I2V", "CogVideoX_Inpaint"), _one(r"patch_embed\.text_proj")),
    Family("Ernie-Image", ("ErnieImage",), _one("text_proj")),
)

_NO_TEXT = "it is not conditioned on text, so there is no concept to erase from it"
_SOUND = "it makes sound, and this pack erases from models that make pictures"
_ADAPTER = "it rewrites the text in a network of its own before it reads it, so that no linear edit is exact"
_UNKNOWN = "this pack does not know yet where it reads the text"

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("SVD_img2vid", "SV3D_u", "SV3D_p", "Stable_Zero123"), _NO_TEXT),
        **dict.fromkeys(("Hunyuan3Dv2", "Hunyuan3Dv2_1", "Hunyuan3Dv2mini", "Trellis2", "TripoSplat"), _NO_TEXT),
        **dict.fromkeys(("SeedVR2", "RT_DETR_v4", "DepthAnything3"), _NO_TEXT),
        **dict.fromkeys(("SAM3", "SAM31"), "it finds things in pictures and makes none"),
        **dict.fromkeys(("StableAudio", "StableAudio3", "ACEStep", "ACEStep15", "MiniMaxMusic3"), _SOUND),
        **dict.fromkeys(("LTXAV", "Anima", "MiniMaxH3", "Krea2", "HiDreamO1"), _ADAPTER),
        **dict.fromkeys(("Lens", "PixelDiTT2I", "PiD", "Boogu", "Ideogram4", "MageFlow", "JoyImage"), _UNKNOWN),
        "LongCatImage": _UNKNOWN,
        "Stable_Cascade_B": "it reads only a pooled text embedding: put the erasure on the model of stage C",
    }
)
"""Why each of the other configurations cannot be erased from."""
