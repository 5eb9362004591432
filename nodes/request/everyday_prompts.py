"""Prompts and words of everyday life: what no erasure should change, unless a person asks for it.

Three sets that have no prompt in common: a method is fitted to one, chooses by another, and is judged by the third.
"""

from __future__ import annotations

HELD_OUT = (
    "a photo of a dog in a park",
    "a landscape with mountains and a lake",
    "a street in a city at night",
    "a bowl of fruit on a wooden table",
    "a portrait of an old man with a beard",
)
"""Their drift shows what an erasure costs other prompts. Nothing is ever fitted to them or chosen by them."""

TUNING = (
    "a horse standing in a meadow",
    "a harbour with fishing boats at dawn",
    "a shop window in the rain",
    "a plate of cheese and bread",
    "a portrait of a young woman with short hair",
)
"""How many epochs and how large a scale may be is chosen by these, where a person set a limit of the drift."""

CALIBRATION = (
    "a cat sleeping on a sofa",
    "two horses running on a beach at sunset",
    "a bird on a branch",
    "a red sports car on a road",
    "an old bicycle leaning against a brick wall",
    "a train crossing a stone bridge",
    "a sailing boat on the sea",
    "a small house with a garden",
    "a castle on a hill, fantasy art",
    "a modern kitchen with white furniture",
    "a cup of coffee and a croissant",
    "a vase with flowers, oil painting",
    "a forest path in autumn",
    "snow-covered trees under a blue sky",
    "a waterfall in the jungle",
    "a field of sunflowers",
    "a desert with sand dunes",
    "a busy market with many people",
    "a woman in a green dress smiling at the camera",
    "a young man playing the guitar on stage",
    "children playing football",
    "a robot in a futuristic city, digital art",
    "an astronaut on the moon",
    "a black and white photograph of a staircase",
    "a watercolour of a village",
    "an abstract pattern of circles and lines",
    "a wooden chair beside a window",
    "a stack of old books",
    "a pizza on a plate, top view",
    "a butterfly on a leaf, macro",
    "a skyscraper seen from below",
    "a spaceship flying past a planet, concept art",
)
"""What a projection is fitted to keep, in addition to what a person preserves (part of its Σ_N)."""

CONTEXTS = ("{}", "a {}", "the {}", "a photo of a {}", "a drawing of a {}", "an image of {}")
"""Where a projection looks at a concept, unless templates say otherwise; each ends with it."""

WORDS = ("house", "dog", "river", "chair", "bread", "letter", "garden", "train", "window", "mountain")
"""What a projection compares a concept with: other words in its place."""
