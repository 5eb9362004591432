"""Templates for other models than Stable Diffusion 1.5, each with the files that it needs and where they are to be had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .parts import (
    EDGE,
    GAP,
    LOOK_WIDTH,
    PURPLE,
    STEP,
    WIDTH,
    Loaded,
    Placed,
    Sampled,
    Template,
    assembled,
    column,
    erase_piece,
    loaded_checkpoint,
    loaded_files,
    look_piece,
    model_piece,
    prompt,
    sampled_piece,
    save_piece,
)

SHORT = {"concepts": "Van Gogh -> art", "preset": "artistic style", "preserve": "Claude Monet\nRembrandt"}
IN_CONTEXT = {**SHORT, "concepts": "Van Gogh -> art\na painting by Van Gogh -> a painting"}
PROMPTS = "a landscape in the style of Van Gogh\na landscape in the style of Claude Monet\na photo of a dog in a park"
FILES = "Put the files that the loaders name into *models/diffusion_models*, *models/text_encoders* and *models/vae*; where they are to be had, ComfyUI tells when it misses one."
CONTEXT = "This model's text encoder sees words **in their context**: so a phrase that prompts use stands below the name, mapped to the same phrase without the painter. Add the phrases that your prompts use."
UNMEASURED = "How well this erases from this model was **not measured**: look. The same prompts with the same noise, before and after."


def _style(
    name: str,
    loaded: Loaded,
    first: str,
    second: str,
    values: Mapping[str, Any],
    look: Mapping[str, Any],
    file: str,
    saved: str,
) -> Template:
    """A painter's style, erased and compared; what is left out of *look* is as for Stable Diffusion."""
    return assembled(
        name,
        model_piece(loaded, first),
        erase_piece(loaded, values, second),
        look_piece(3, 2 * STEP, loaded, [("erase", 0)], ("erase", 2), {"prompts": PROMPTS, **look}, UNMEASURED),
        save_piece(4, 2 * STEP + LOOK_WIDTH + GAP, saved, file, 200),
    )


def _wan() -> Template:
    loaded = loaded_files(
        "wan2.1_t2v_1.3B_fp16.safetensors",
        ("umt5_xxl_fp8_e4m3fn_scaled.safetensors",),
        "wan",
        "wan_2.1_vae.safetensors",
        360,
    )
    latent = Placed("EmptyHunyuanLatentVideo", (EDGE, 830, WIDTH, 160), {"width": 832, "height": 480, "length": 33})
    left = 3 * STEP
    erase = erase_piece(
        loaded,
        {"concepts": "a dog -> a cat", "preset": "easy object", "preserve": "a horse"},
        "UMT5 sees words in their context: add the phrases that your prompts use, one a line, each with what it is to become.",
        160,
    )
    prompts = column(
        3,
        "Prompts",
        PURPLE,
        2 * STEP,
        "A prompt with the concept. Read the report before you wait for videos.",
        160,
        {
            "positive": prompt(2 * STEP + EDGE, 300, "a dog runs on a beach", "Prompt that shows the concept"),
            "negative": prompt(2 * STEP + EDGE, 490, "", "Negative prompt"),
            "report": Placed("PreviewAny", (2 * STEP + EDGE, 680, WIDTH, 300), {}, "Report"),
        },
        (("encoder", 0, "positive", "clip"), ("encoder", 0, "negative", "clip"), ("erase", 2, "report", "source")),
    )
    look = sampled_piece(
        4,
        left,
        "Before and after",
        (Sampled("Before", loaded.model, ("positive", 0)), Sampled("After", ("erase", 0), ("positive", 0))),
        {"negative": ("negative", 0), "latent": ("latent", 0), "vae": loaded.vae},
        {"steps": 30, "cfg": 6.0, "sampler_name": "uni_pc", "scheduler": "simple"},
        ("SaveAnimatedWEBP", {"fps": 16.0}),
        "The same prompt with the same noise. How well this erases from Wan was **not measured**: look.",
    )
    save = save_piece(
        5,
        left + 1000 + GAP,
        "Wan 2.2 has **two models**, for high and low noise: erase the same concepts from both, and save two erasers.",
        "no_dog_wan",
        140,
    )
    first = model_piece(loaded, FILES, 200, {"latent": latent})
    return assembled("Erase from videos (Wan 2.1)", first, erase, prompts, look, save)


TEMPLATES = (
    _style(
        "Erase a style (SDXL)",
        loaded_checkpoint("sd_xl_base_1.0.safetensors"),
        "Choose an **SDXL** checkpoint: the base model, or any fine-tune of it.",
        "*Van Gogh -> art* says what to draw instead, and *preserve* what should stay. SDXL also reads a **pooled** text embedding; it is "
        "erased from too, and *pooled* under the advanced inputs turns that off.",
        SHORT,
        {"steps": 25, "cfg": 6.0, "scheduler": "normal", "width": 1024, "height": 1024},
        "no_van_gogh_sdxl",
        "The eraser fits every fine-tune of SDXL, and no model of another architecture.",
    ),
    _style(
        "Erase a style (Flux)",
        loaded_files(
            "flux1-dev.safetensors", ("clip_l.safetensors", "t5xxl_fp8_e4m3fn.safetensors"), "flux", "ae.safetensors"
        ),
        FILES,
        CONTEXT,
        IN_CONTEXT,
        {"cfg": 1.0, "scheduler": "simple", "width": 1024, "height": 1024},
        "no_van_gogh_flux",
        "The fp8 files of T5 are fine. In an fp8 Flux the erasure runs inside the model, exactly: save the **eraser**, not the checkpoint.",
    ),
    _style(
        "Erase a style (Z-Image)",
        loaded_files("z_image_turbo_bf16.safetensors", ("qwen_3_4b.safetensors",), "lumina2", "ae.safetensors"),
        FILES,
        CONTEXT,
        IN_CONTEXT,
        {"steps": 9, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "width": 1024, "height": 1024},
        "no_van_gogh_z_image",
        "The eraser fits other models that were made from Z-Image, such as its fine-tunes.",
    ),
    _style(
        "Erase a style (Qwen-Image)",
        loaded_files(
            "qwen_image_fp8_e4m3fn.safetensors",
            ("qwen_2.5_vl_7b_fp8_scaled.safetensors",),
            "qwen_image",
            "qwen_image_vae.safetensors",
        ),
        FILES,
        CONTEXT,
        IN_CONTEXT,
        {"cfg": 2.5, "scheduler": "simple", "width": 1328, "height": 1328},
        "no_van_gogh_qwen_image",
        "In an fp8 model the erasure runs inside the model, exactly: save the **eraser**, not the checkpoint.",
    ),
    _wan(),
)
