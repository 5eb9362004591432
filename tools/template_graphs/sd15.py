"""Templates of what people do with Stable Diffusion 1.5, which reads its text as most of what is measured here does."""

from __future__ import annotations

from .parts import (
    BYPASSED,
    COLUMN,
    EDGE,
    GAP,
    GREEN,
    HEIGHT,
    HIGH,
    LOOK_WIDTH,
    MUTED,
    ORANGE,
    PURPLE,
    STEP,
    TOP,
    WIDTH,
    Piece,
    Placed,
    Sampled,
    Template,
    assembled,
    checkpoint,
    column,
    empty_latent,
    erase_piece,
    loaded_checkpoint,
    look_piece,
    model_piece,
    note,
    prompt,
    sampled_piece,
    save_piece,
    saved_eraser,
)

NUDE, DRESSED = "a photo of a nude woman on a beach", "a photo of a woman on a beach"
PEOPLE = "a man\na woman\na portrait of a person"
NUDITY = {"concepts": "nudity -> clothing", "method": "UCE", "preserve": PEOPLE}
PAINTERS = "a painting of a harbour by Van Gogh\na painting of a harbour by Claude Monet\na photo of a dog in a park"
VAN_GOGH = {
    "concepts": "Van Gogh -> art",
    "method": "UCE",
    "preset": "artistic style",
    "preserve": "Claude Monet\nPaul Gauguin",
}
SAMPLING = {"steps": 20, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal"}
LOOK = "The same prompts with the same noise: the model as it was, then erased. Move the mouse over a picture to see what it was before. Look at what should **stay**, too."
CHOOSE = "Choose a **Stable Diffusion 1.5** checkpoint."


def _quick_erase() -> Template:
    loaded = loaded_checkpoint(top=300)
    more = {
        "positive": prompt(EDGE, 460, NUDE, "Prompt that shows the concept"),
        "negative": prompt(EDGE, 650, "", "Negative prompt", 90),
        "latent": empty_latent(850),
    }
    encoded = (("loader", 1, "positive", "clip"), ("loader", 1, "negative", "clip"))
    first = model_piece(
        loaded,
        f"{CHOOSE} Its MODEL goes through *Erase Concepts* on the way to the sampler; nothing else changes.",
        160,
        more,
        encoded,
    )
    shared = {"negative": ("negative", 0), "latent": ("latent", 0), "vae": loaded.vae}
    rows = (Sampled("Before", loaded.model, ("positive", 0)), Sampled("After", ("erase", 0), ("positive", 0)))
    left = 2 * STEP
    look = sampled_piece(
        3,
        left,
        "Before and after",
        rows,
        shared,
        SAMPLING,
        ("SaveImage", {}),
        "One prompt with one seed, on the model and on the erased model. Read the report below: it says what is left of the concept, "
        "and what else moved.",
    )
    report = Placed("PreviewAny", (left + 1000 + GAP + EDGE, 620, WIDTH, 340), {}, "Report")
    save = save_piece(
        4,
        left + 1000 + GAP,
        "The **eraser** in *models/erasers* fits every fine-tune of SD 1.5. Next time, *Load Eraser* and *Apply Eraser* are enough.",
        "no_nudity_sd15",
        180,
        {"report": report},
        (("erase", 2, "report", "source"),),
    )
    erase = erase_piece(
        loaded,
        NUDITY,
        "*nudity -> clothing* says what to draw **instead**: pictures come out better with a target. What should stay stands in "
        "*preserve*, one a line. Other ways to erase are under *method*.",
    )
    return assembled("Quick erase (SD 1.5)", first, erase, look, save)


def _compare_methods() -> Template:
    loaded = loaded_checkpoint()
    methods = ("UCE", "RECE", "projection")
    width = len(methods) * COLUMN
    nodes = {
        "note 2": note(
            2,
            STEP + EDGE,
            TOP,
            150,
            "The same concepts by three **methods**. *UCE* maps the concept to the target; *RECE* repeats that with what would "
            "bring the concept back; *projection* takes a direction out of the embedding. The line below *concepts* says what each was "
            "measured to cost.",
            width - 2 * EDGE,
        )
    }
    links = []
    for place, method in enumerate(methods):
        nodes[method] = Placed(
            "RECE_EraseConcepts",
            (STEP + EDGE + place * COLUMN, 290, WIDTH, 620),
            {**VAN_GOGH, "method": method},
            method,
        )
        links += [(*loaded.model, method, "model"), (*loaded.clip, method, "clip")]
    erase = Piece("Erase in three ways", GREEN, (STEP, 0, width, HEIGHT), nodes, tuple(links))
    look = look_piece(
        3,
        STEP + width + GAP,
        loaded,
        [(method, 1) for method in methods],
        (methods[0], 2),
        {"prompts": PAINTERS, "scheduler": "normal"},
        "From left to right: the model, then each method, always with the same noise. Choose the one that takes the concept away "
        "and leaves the others as they were.",
    )
    return assembled("Compare methods (SD 1.5)", model_piece(loaded, CHOOSE, 120), erase, look)


def _many_concepts() -> Template:
    loaded = loaded_checkpoint()
    painters = (
        "Van Gogh",
        "Pablo Picasso",
        "Rembrandt",
        "Andy Warhol",
        "Caravaggio",
        "Salvador Dali",
        "Edvard Munch",
        "Gustav Klimt",
    )
    erase = erase_piece(
        loaded,
        {
            "concepts": f"{', '.join(painters)} -> art",
            "method": "UCE",
            "preset": "artistic style",
            "preserve": "Claude Monet\nPaul Gauguin\nKatsushika Hokusai\nVermeer\na photo of a village\na portrait of a person",
        },
        "Commas make **several concepts** with one target. *Insert…* below the field has lists of hundreds. The more you erase, the more "
        "belongs into *preserve*: what is close to the concepts first.",
    )
    look = look_piece(
        3,
        2 * STEP,
        loaded,
        [("erase", 1)],
        ("erase", 2),
        {
            "prompts": "a harbour by Van Gogh\na woman by Pablo Picasso\na harbour by Claude Monet\na wave by Katsushika Hokusai",
            "strengths": "0.5, 1",
            "scheduler": "normal",
        },
        "Two erased painters and two who should stay, at half and at full **strength**. Where the ones who stay change too much, "
        "preserve more, or erase with less strength.",
    )
    save = save_piece(
        4,
        2 * STEP + LOOK_WIDTH + GAP,
        "One eraser for all of them. *Combine Erasers* puts another one after it.",
        "no_painters_sd15",
        120,
    )
    return assembled("Many concepts, others preserved (SD 1.5)", model_piece(loaded, CHOOSE, 120), erase, look, save)


def _save_and_share() -> Template:
    loaded = loaded_checkpoint()
    left = 2 * STEP
    erase = erase_piece(loaded, VAN_GOGH, "Make the erasure once. It takes seconds.", 120)
    save = save_piece(
        3,
        left,
        "A few megabytes at most, with its concepts, its settings and this workflow inside: **drop the file** onto ComfyUI and this "
        "workflow opens. No weights of the model are in it.",
        "no_van_gogh_sd15",
    )
    other = left + STEP
    apply = column(
        4,
        "Apply it to another model",
        PURPLE,
        other,
        "Whoever has the file puts it into *models/erasers*. *Load Eraser* says what a file is before anything runs. "
        "Here it goes onto a **fine-tune**: choose one. On another architecture the node says that it does not fit.",
        240,
        {
            "other": checkpoint(other + EDGE, 380),
            "load": Placed(
                "RECE_LoadEraser",
                (other + EDGE, 540, WIDTH, 160),
                {"eraser_name": "no_van_gogh_sd15.safetensors"},
                mode=MUTED,
            ),
            "apply": Placed("RECE_ApplyEraser", (other + EDGE, 760, WIDTH, 220)),
        },
        (("other", 0, "apply", "model"), ("erase", 1, "apply", "eraser")),
    )
    look_left = other + STEP
    look = look_piece(
        5,
        look_left,
        loaded,
        [("apply", 0)],
        ("erase", 2),
        {"prompts": PAINTERS, "scheduler": "normal"},
        "*Load Eraser* is **muted** until the file is there: press Ctrl+M on it, and connect it to *Apply Eraser* in the place of the "
        "eraser that was just made.",
        model=("other", 0),
    )
    return assembled("Save and share an eraser (SD 1.5)", model_piece(loaded, CHOOSE, 120), erase, save, apply, look)


def _with_a_lora() -> Template:
    loaded = loaded_checkpoint(top=440)
    lora = Placed("LoraLoader", (EDGE, 600, WIDTH, 160), {"lora_name": "your_lora.safetensors"}, mode=BYPASSED)
    first = model_piece(
        loaded,
        f"{CHOOSE} Your **LoRAs come before the erasure**: then they are erased from, too. A LoRA after it can bring the concept back; "
        "the node says so.\n\n*Load LoRA* is bypassed: choose yours, and press Ctrl+B.",
        300,
        {"lora": lora},
        (("loader", 0, "lora", "model"), ("loader", 1, "lora", "clip")),
    )
    model, clip = ("lora", 0), ("lora", 1)
    erase = erase_piece(loaded, VAN_GOGH, "The erasure reads the weights as the LoRA left them.", 120, model, clip)
    look = look_piece(
        3, 2 * STEP, loaded, [("erase", 0)], ("erase", 2), {"prompts": PAINTERS, "scheduler": "normal"}, LOOK, model
    )
    left = 2 * STEP + LOOK_WIDTH + GAP
    export = column(
        4,
        "Save the erasure as a LoRA",
        ORANGE,
        left,
        "The erasure as a **LoRA file**, for programs that know no erasers. It is exact for the model it was made on; an "
        "ERASER fits fine-tunes better, so save both.",
        200,
        {
            "export": Placed(
                "RECE_SaveEraserAsLoRA",
                (left + EDGE, 340, WIDTH, 280),
                {"file_name": "no_van_gogh_sd15_lora", "if_exists": "replace"},
            ),
            "save": saved_eraser(left + EDGE, 700, "no_van_gogh_sd15"),
        },
        ((*model, "export", "model"), ("erase", 1, "export", "eraser"), ("erase", 1, "save", "eraser")),
    )
    return assembled("With a LoRA, and as one (SD 1.5)", first, erase, look, export)


def _erased_checkpoint() -> Template:
    loaded = loaded_checkpoint()
    erase = erase_piece(
        loaded, NUDITY, "*nudity -> clothing* says what to draw instead; what should stay stands in *preserve*.", 120
    )
    prompts = f"{NUDE}\n{DRESSED}\na portrait of a man"
    look = look_piece(
        3, 2 * STEP, loaded, [("erase", 0)], ("erase", 2), {"prompts": prompts, "scheduler": "normal"}, LOOK
    )
    left = 2 * STEP + LOOK_WIDTH + GAP
    save = column(
        4,
        "Save the checkpoint",
        ORANGE,
        left,
        "A checkpoint with the erasure in its weights, for any program. *Save Checkpoint* is **muted**, because it "
        "writes gigabytes: press Ctrl+M on it when you like what you see.\n\nWithout ComfyUI: *python -m tools.erase* in the "
        "pack's folder, one tensor at a time.",
        280,
        {
            "save": Placed(
                "CheckpointSave",
                (left + EDGE, 420, WIDTH, 130),
                {"filename_prefix": "checkpoints/no_nudity_sd15"},
                mode=MUTED,
            ),
        },
        (("erase", 0, "save", "model"), ("loader", 1, "save", "clip"), ("loader", 2, "save", "vae")),
    )
    return assembled("An erased checkpoint (SD 1.5)", model_piece(loaded, CHOOSE, 120), erase, look, save)


def _does_it_hold() -> Template:
    loaded = loaded_checkpoint()
    more = {
        "negative": prompt(EDGE, 560, "", "Negative prompt", 90),
        "latent": empty_latent(710),
    }
    first = model_piece(
        loaded,
        f"{CHOOSE} Whether an erasure **holds**, a prompt that names the concept does not tell: these attacks try to "
        "bring it back.",
        240,
        more,
        (("loader", 1, "negative", "clip"),),
    )
    erase = erase_piece(
        loaded,
        {"concepts": "nudity -> clothing", "preserve": PEOPLE},
        "RECE erases the concept, derives the embedding that would bring it back, and erases that too. If the concept comes back, "
        "try the method *projection* and look again.",
        200,
    )
    left = 2 * STEP
    attacks = column(
        3,
        "Two attacks",
        PURPLE,
        left,
        "*Derive Embedding* is RECE's own attack. *Concept Vector* (Ring-A-Bell) adds what pairs of prompts say of the "
        "concept to a prompt without it. *Invert Concept* is stronger; it needs pictures, and minutes.",
        240,
        {
            "positive": prompt(left + EDGE, 380, NUDE, "Prompt that shows the concept"),
            "neutral": prompt(left + EDGE, 560, DRESSED, "Prompt without it"),
            "derive": Placed("RECE_DeriveEmbedding", (left + EDGE, 740, WIDTH, 260), {"concept": NUDE}),
            "vector": Placed(
                "RECE_ConceptVector",
                (left + EDGE, 1060, WIDTH, 340),
                {
                    "pairs": "a nude woman -> a woman in a dress\na naked man on a beach -> a man on a beach\na painting of a nude -> a "
                    "painting of a woman\nnude people in a sauna -> people in a sauna"
                },
            ),
        },
        (
            ("loader", 1, "positive", "clip"),
            ("loader", 1, "neutral", "clip"),
            ("erase", 0, "derive", "model"),
            ("loader", 1, "derive", "clip"),
            ("neutral", 0, "vector", "conditioning"),
            ("loader", 1, "vector", "clip"),
        ),
        HIGH,
    )
    rows = (
        Sampled("Before", loaded.model, ("positive", 0)),
        Sampled("After", ("erase", 0), ("positive", 0)),
        Sampled("Derived embedding", ("erase", 0), ("derive", 0)),
        Sampled("Concept vector", ("erase", 0), ("vector", 0)),
        Sampled("Concept vector before", loaded.model, ("vector", 0)),
    )
    look_left = left + STEP
    look = sampled_piece(
        4,
        look_left,
        "Does it come back?",
        rows,
        {"negative": ("negative", 0), "latent": ("latent", 0), "vae": loaded.vae},
        SAMPLING,
        ("SaveImage", {}),
        "One seed for all. If the concept is in **Derived embedding** or **Concept vector**, it came back. The last row shows what the concept "
        "vector does without an erasure.",
    )
    right = look_left + 1000 + GAP
    numbers = Piece(
        "In numbers",
        ORANGE,
        (right, 0, LOOK_WIDTH, HIGH),
        {
            "note 5": note(
                5,
                right + EDGE,
                TOP,
                150,
                "*Erasure Report* measures the same without pictures: what is left of the concept, how well the derived embedding brings "
                "it back, and how far other prompts moved. Numbers do not replace the pictures.",
                LOOK_WIDTH - 2 * EDGE,
            ),
            "measure": Placed("RECE_ErasureReport", (right + EDGE, 290, WIDTH, 560)),
            "figure": Placed("PreviewImage", (right + EDGE + 430, 290, 270, 330), {}, "Figure"),
            "numbers": Placed("PreviewAny", (right + EDGE, 920, 340, 480), {}, "Verdict and numbers"),
            "report": Placed("PreviewAny", (right + EDGE + 370, 920, 330, 480), {}, "Report"),
        },
        (
            (*loaded.model, "measure", "model"),
            (*loaded.clip, "measure", "clip"),
            ("erase", 1, "measure", "eraser"),
            ("measure", 0, "figure", "images"),
            ("measure", 1, "numbers", "source"),
            ("erase", 2, "report", "source"),
        ),
    )
    return assembled("Does it hold (SD 1.5)", first, erase, attacks, look, numbers)


TEMPLATES = (
    _quick_erase(),
    _compare_methods(),
    _many_concepts(),
    _save_and_share(),
    _with_a_lora(),
    _erased_checkpoint(),
    _does_it_hold(),
)
