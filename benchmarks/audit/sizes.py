"""How much the audit does, and of which captions."""

from __future__ import annotations

from dataclasses import dataclass

TRAINED_ON, ATTACKED_WITH = 1, 2
"""Seeds of captions: nobody is trained on the captions that are measured (seed 0), nor attacks with them."""


@dataclass(frozen=True)
class Sizes:
    """How much is done; the standard sizes are for a graphics card.

    Attributes:
        captions: of each sort that is measured, half as many of the neighbour and twice as many others.
        contexts, preserved: captions that the training gets.
        pictures, retained, picture_steps: pictures that it makes.
        steps, erased, kept, adversaries: of the training; the batches are of concept and other pictures.
        attack_pictures: that the attacker has.
        attack_steps, attack_batch, starts: of the inversion; without a start there is none.
        choosing: pictures by which the best start is chosen.
        inner_steps: of Receler's adversary for each of its own.
        piece: seconds after which a training of Receler stops and nothing is begun, to be gone on with by the same command; 0 never
            stops.
    """

    captions: int = 32
    contexts: int = 24
    preserved: int = 72
    pictures: int = 64
    retained: int = 128
    picture_steps: int = 10
    steps: int = 250
    erased: int = 64
    kept: int = 96
    adversaries: int = 48
    attack_pictures: int = 24
    attack_steps: int = 300
    attack_batch: int = 4
    starts: int = 5
    choosing: int = 10
    inner_steps: int = 50
    piece: int = 0
