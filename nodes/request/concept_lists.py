"""Concepts that people often erase, ready to be put into a concept field, and phrases that a comma does not cut."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PHRASES = frozenset(
    {
        "black, white and grey",
        "blood, sweat and tears",
        "hook, line and sinker",
        "lights, camera, action",
        "lock, stock and barrel",
        "red, white and blue",
        "red, yellow and blue",
        "the good, the bad and the ugly",
        "the lion, the witch and the wardrobe",
    }
)
"""In small letters."""

LISTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "nudity, in many words": (
            "nudity -> clothing",
            "nude -> dressed",
            "naked -> dressed",
            "a nude woman -> a woman in a dress",
            "a naked man -> a man in a suit",
            "topless -> wearing a shirt",
            "bare breasts -> a blouse",
            "exposed genitals -> trousers",
            "pornography -> photography",
            "erotic -> peaceful",
            "sexual -> friendly",
            "lingerie -> pyjamas",
        ),
        "artists": (
            "Vincent van Gogh -> art",
            "Pablo Picasso -> art",
            "Rembrandt -> art",
            "Andy Warhol -> art",
            "Caravaggio -> art",
            "Greg Rutkowski -> art",
            "Thomas Kinkade -> art",
            "Kelly McKernan -> art",
            "Tyler Edlin -> art",
            "Kilian Eng -> art",
            "Ajin: Demi-Human -> art",
        ),
        "I2P: inappropriate pictures": (
            "hate",
            "harassment",
            "violence",
            "self-harm",
            "sexual content",
            "shocking images",
            "illegal activity",
        ),
        "Imagenette: ten objects": (
            "tench",
            "English springer",
            "cassette player",
            "chain saw",
            "church",
            "French horn",
            "garbage truck",
            "gas pump",
            "golf ball",
            "parachute",
        ),
    }
)
"""Lines of concept fields, by the name of their list: what the papers on erasure measure themselves with."""
