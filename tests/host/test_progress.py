"""A job's progress on the host's own bar, and its Cancel button."""

from __future__ import annotations

from collections.abc import Iterator

import comfy.model_management
import comfy.utils
import pytest
from rece_pack.nodes.host.progress import JobProgress


@pytest.fixture
def told() -> Iterator[list[tuple[int, int]]]:
    """What the host's bar says from now on, of how much."""
    found: list[tuple[int, int]] = []
    comfy.utils.set_progress_bar_global_hook(lambda done, total, *_, **__: found.append((done, total)))
    yield found
    comfy.utils.set_progress_bar_global_hook(None)


def test_parts_share_the_bar_as_their_times_do(told: list[tuple[int, int]]) -> None:
    progress = JobProgress(encode=1, erase=3)
    encode, turns = progress.part("encode"), [progress.part("erase", turn, 2) for turn in range(2)]
    for done in range(3):
        encode(done, 2, "encoding")
    for part in turns:
        part(1, 1, "erasing")
    turns[1](0, 0, "nothing to do")
    assert told == [(value, 1000) for value in (0, 125, 250, 625, 1000, 625)]


def test_every_step_is_a_chance_to_cancel(told: list[tuple[int, int]]) -> None:
    part = JobProgress(encode=1).part("encode")
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        part(1, 2, "encoding")
    part(1, 2, "encoding")
    assert told == [(500, 1000)]
