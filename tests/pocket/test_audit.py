"""The audit's records and its table, and that its backwards sampling is the inverse of the forwards one."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.audit.probes import PROBES
from benchmarks.audit.probes.fine_tuned import MARKS, steps_until_back
from benchmarks.audit.probes.start_noise import FIXED_POINT, SMALLEST, STEPS, backwards, forwards
from benchmarks.audit.records import REPORTED, Found, Probed
from benchmarks.audit.report import write_report
from benchmarks.audit.run import PROBES_FOLDER
from benchmarks.erased_models import UNEDITED
from benchmarks.records import RESULTS, read_records, write_records
from pocket_model.rates import Rate

THREE_OF_FOUR = Rate(3, 4)


def probed(probe: str, rate: Rate = THREE_OF_FOUR, numbers: tuple[float, ...] = ()) -> Probed:
    return Probed(UNEDITED, "striped", probe, rate, numbers, 1.0, "a machine")


def test_what_was_measured_before_is_still_read() -> None:
    found = [one for file in (RESULTS / "audit").glob("*.json") for one in read_records(file, Found)]
    assert len(found) > 20
    assert {one.method for one in found} <= set(REPORTED)


def test_a_table_has_columns_for_what_was_measured_only(tmp_path: Path) -> None:
    old = json.loads((RESULTS / "audit" / "striped.json").read_text(encoding="utf-8"))
    (tmp_path / "striped.json").write_text(json.dumps(old), encoding="utf-8")
    write_report(tmp_path, tmp_path / "before.md")
    assert "Further probes" not in (tmp_path / "before.md").read_text(encoding="utf-8")
    shares = (0.0, 0.25, 0.5)
    records = [
        probed("inpainting"),
        probed("picture difference", Rate(0, 0), (0.1, 0.05, 0.15)),
        probed("fine-tuning on 4", Rate(4, 4), shares),
    ]
    write_records(tmp_path / PROBES_FOLDER / "striped.json", records)
    assert [asdict(one) for one in read_records(tmp_path / PROBES_FOLDER / "striped.json", Probed)] == [
        {**asdict(one), "numbers": list(one.numbers)} for one in records
    ]
    write_report(tmp_path, tmp_path / "after.md")
    lines = (tmp_path / "after.md").read_text(encoding="utf-8").splitlines()
    header = lines.index("| | picture difference | inpainting | fine-tuning on 4 |")
    assert lines[header + 2] == f"| striped: {UNEDITED} | 10.0% (5.0%–15.0%) | {THREE_OF_FOUR} | {MARKS[2]} |"
    assert {one.probe for one in records} < set(PROBES)


def test_a_concept_that_does_not_come_back_is_told_as_such() -> None:
    assert steps_until_back((0.0,) * len(MARKS)) == f"> {MARKS[-1]}"
    assert steps_until_back((1.0,)) == str(MARKS[0])


def test_sampling_backwards_is_the_inverse_of_sampling_forwards() -> None:
    """Of normal data of variance 1, whose best denoiser is x/(1 + σ²): the slope is xσ/(1 + σ²)."""
    levels = 14.6 * (SMALLEST / 14.6) ** torch.linspace(0, 1, STEPS, dtype=torch.float64)
    clean = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def slope(noisy: Tensor, level: Tensor) -> Tensor:
        return noisy * level / (1 + level.square())

    noisy = backwards(clean, levels.flip(0), slope)[-1]
    # It has become noise of about the largest level.
    assert 0.5 < float(noisy.std() / (clean.std() * levels[0])) < 2
    # A fixed point with contraction c begins c·‖x‖ away at most, and k steps leave c^k of it; forwards, no error grows.
    contraction = max(float((above - below) * above / (1 + above.square())) for above, below in pairwise(levels))
    bound = (1 + contraction ** (FIXED_POINT + 1)) ** (STEPS - 1) - 1
    assert bound < 0.05
    assert float((forwards(noisy, levels, slope) - clean).norm() / clean.norm()) <= bound
