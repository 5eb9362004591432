"""Templates about training."""

from __future__ import annotations

from .parts import (
    BLUE,
    GREEN,
    MUTED,
    ORANGE,
    PURPLE,
    RED,
    Placed,
    Template,
    checkpoint,
    empty_latent,
    note,
    prompt,
    saved_eraser,
)

CONCEPT = "Van Gogh -> art"
CONTEXTS = "a painting by {}\na portrait in the style of {}\na village, painted by {}\na vase with flowers by {}"
PRESERVE = "a painting by Claude Monet\na painting by Paul Gauguin\na photo of a village"
HARBOUR = "a painting of a harbour by Van Gogh"
SAMPLER = {"seed": 42, "control_after_generate": "fixed", "steps": 20, "cfg": 7.0, "sampler_name": "euler"}
TEMPLATES = (
    Template(
        "Harden an erasure (SD 1.5)",
        (
            ("1. Model", BLUE, (0, 0, 440, 1010)),
            ("2. Erase in closed form", GREEN, (480, 0, 440, 1010)),
            ("3. Harden it", PURPLE, (960, 0, 440, 1460)),
            ("4. Save and apply", ORANGE, (1440, 0, 440, 1010)),
            ("5. Compare", RED, (1920, 0, 740, 1460)),
        ),
        {
            "note 1": note(
                1,
                20,
                80,
                400,
                "Choose a **Stable Diffusion 1.5** checkpoint (2 and XL work too).\n\nThe erasure begins in closed form, which takes "
                "a second, and is then **trained** against contexts that learn to bring the concept back. The training takes "
                "hundreds of steps, which is slow without a graphics card. It can be cancelled and resumed.",
            ),
            "loader": checkpoint(20, 540),
            "note 2": note(
                2,
                500,
                80,
                200,
                "*Van Gogh -> art* says what to draw instead. A **target** of the same kind costs other pictures least.",
            ),
            "erase": Placed(
                "RECE_EraseConcepts",
                (500, 340, 400, 560),
                {"concepts": CONCEPT, "method": "projection", "preserve": "Claude Monet\nPaul Gauguin"},
            ),
            "note 3": note(
                3,
                980,
                80,
                260,
                "*contexts* are prompts in which people write the concept, *preserve* what should stay, above all what is **close to "
                "it**. More steps erase more and cost more.\n\nReceler is another method of this node.",
            ),
            "train": Placed(
                "RECE_TrainEraser",
                (980, 400, 400, 1000),
                {"concepts": CONCEPT, "contexts": CONTEXTS, "preserve": PRESERVE},
            ),
            "note 4": note(
                4,
                1460,
                80,
                200,
                "The **eraser** holds the closed form and what was trained. It fits every fine-tune of SD 1.5: next time, *Load Eraser* and "
                "*Apply Eraser* are enough.",
            ),
            "save": saved_eraser(1460, 340, "hardened_van_gogh_sd15", 160),
            "apply": Placed("RECE_ApplyEraser", (1460, 600, 400, 220)),
            "note 5": note(
                5,
                1940,
                80,
                150,
                "From left to right: the model, the closed form, the hardened erasure, always with the same noise. Look at the "
                "**other** painters too. Whether an attacker gets through, these pictures do not say: try *Invert Concept*.",
                700,
            ),
            "compare": Placed(
                "RECE_CompareErasure",
                (1940, 290, 700, 560),
                {
                    "prompts": f"{HARBOUR}\na painting of a harbour by Claude Monet\na photo of a dog in a park",
                    "seed": 42,
                    "control_after_generate": "fixed",
                },
            ),
            "pictures": Placed("SaveImage", (1940, 1080, 330, 340), {"filename_prefix": "rece/hardened"}, "Pictures"),
            "report": Placed("PreviewAny", (2310, 1080, 330, 340), {}, "Report"),
        },
        (
            ("loader", 0, "erase", "model"),
            ("loader", 1, "erase", "clip"),
            ("loader", 0, "train", "model"),
            ("loader", 1, "train", "clip"),
            ("loader", 2, "train", "vae"),
            ("erase", 1, "train", "eraser"),
            ("train", 1, "save", "eraser"),
            ("train", 1, "apply", "eraser"),
            ("loader", 0, "apply", "model"),
            ("loader", 0, "compare", "model"),
            ("loader", 1, "compare", "clip"),
            ("loader", 2, "compare", "vae"),
            ("erase", 1, "compare", "erased_1"),
            ("apply", 0, "compare", "erased_2"),
            ("compare", 1, "pictures", "images"),
            ("train", 2, "report", "source"),
        ),
    ),
    Template(
        "Unlearn in the text encoder (SD 1.5)",
        (
            ("1. Model and prompts", BLUE, (0, 0, 440, 1300)),
            ("2. Unlearn", PURPLE, (480, 0, 440, 1300)),
            ("3. Before and after", GREEN, (960, 0, 1200, 1040)),
            ("4. Save the text encoder", ORANGE, (960, 1080, 1200, 340)),
        ),
        {
            "note 1": note(
                1,
                20,
                80,
                260,
                "Choose a **Stable Diffusion 1.5** checkpoint. The model itself stays as it is: only the **text encoder** unlearns, "
                "so that every model with this CLIP can be used with it afterwards.",
            ),
            "loader": checkpoint(20, 400),
            "latent": empty_latent(580, 130),
            "note 2": note(
                2,
                500,
                80,
                260,
                "A few pictures and a few steps (few-shot unlearning). *bounded* stops before it ruins everything; on this pack's "
                "small test model it erased **nothing, or everything**. Raise *learning_rate* and *steps* carefully.",
            ),
            "unlearn": Placed(
                "RECE_UnlearnTextEncoder",
                (500, 400, 400, 840),
                {"concepts": CONCEPT, "contexts": CONTEXTS, "preserve": PRESERVE},
            ),
            "note 3": note(
                3,
                980,
                80,
                110,
                "The same model, noise and prompt, read by the **old** text encoder above and by the **new** one below.",
                1080,
            ),
            "positive": prompt(980, 250, HARBOUR, "Prompt, as before", width=320),
            "negative": prompt(980, 450, "", "Negative prompt, as before", 110, 320),
            "new positive": prompt(980, 640, HARBOUR, "Prompt, unlearned", width=320),
            "new negative": prompt(980, 840, "", "Negative prompt, unlearned", 110, 320),
            "sampler": Placed("KSampler", (1330, 250, 300, 320), SAMPLER, "Before: sampler"),
            "new sampler": Placed("KSampler", (1330, 640, 300, 320), SAMPLER, "After: sampler"),
            "decode": Placed("VAEDecode", (1660, 250, 225, 60)),
            "new decode": Placed("VAEDecode", (1660, 640, 225, 60)),
            "picture": Placed("SaveImage", (1920, 250, 220, 320), {"filename_prefix": "rece/before"}, "Before"),
            "new picture": Placed("SaveImage", (1920, 640, 220, 320), {"filename_prefix": "rece/after"}, "After"),
            "report": Placed("PreviewAny", (20, 800, 400, 440), {}, "Report"),
            "note 4": note(
                4,
                980,
                1160,
                200,
                "*CLIPSave* is **muted**: choose it and press Ctrl+M when you like what you see. Load its file with *CLIPLoader* in "
                "the place of the checkpoint's CLIP.",
                500,
            ),
            "save": Placed(
                "CLIPSave", (1540, 1160, 400, 120), {"filename_prefix": "clip/unlearned_van_gogh"}, mode=MUTED
            ),
        },
        (
            ("loader", 1, "unlearn", "clip"),
            ("loader", 0, "unlearn", "model"),
            ("loader", 2, "unlearn", "vae"),
            ("loader", 1, "positive", "clip"),
            ("loader", 1, "negative", "clip"),
            ("unlearn", 0, "new positive", "clip"),
            ("unlearn", 0, "new negative", "clip"),
            ("loader", 0, "sampler", "model"),
            ("positive", 0, "sampler", "positive"),
            ("negative", 0, "sampler", "negative"),
            ("latent", 0, "sampler", "latent_image"),
            ("loader", 0, "new sampler", "model"),
            ("new positive", 0, "new sampler", "positive"),
            ("new negative", 0, "new sampler", "negative"),
            ("latent", 0, "new sampler", "latent_image"),
            ("sampler", 0, "decode", "samples"),
            ("loader", 2, "decode", "vae"),
            ("new sampler", 0, "new decode", "samples"),
            ("loader", 2, "new decode", "vae"),
            ("decode", 0, "picture", "images"),
            ("new decode", 0, "new picture", "images"),
            ("unlearn", 1, "report", "source"),
            ("unlearn", 0, "save", "clip"),
        ),
    ),
)
