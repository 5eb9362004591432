"""Chunks made by the processes of a Ray cluster, some of which are lost: `pip install ray`, then `-m large`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tools.evaluation import command as evaluate
from tools.evaluation.chunks import Results
from tools.evaluation.erasures import Erased, Erasure
from tools.evaluation.ray_workers import LOCAL, RayError, RayWorkers
from tools.evaluation.work import Subject, Worker, missing_tasks

ERASURES = [Erasure("unedited"), Erasure("unedited too")]
RUN = {"model": "small"}


class Small:
    """Something to evaluate whose process ends in the middle of a set, or which refuses it."""

    name = "small"
    model = clip = None
    concepts = preserve = ""

    def __init__(self, lost: Path | None = None, always: bool = False, refused: str = "") -> None:
        self.sets: Mapping[str, Any] = {name: SimpleNamespace(captions=range(5)) for name in ("own", "others")}
        self._lost, self._always, self._refused = lost, always, refused

    def pictures(self, erased: Erased, name: str, places: range) -> list[torch.Tensor]:
        if self._lost is not None and name == "others" and places.start == 2 and self._is_to_be_lost(self._lost):
            os._exit(9)
        if name == self._refused:
            raise ValueError("no such prompts")
        return [torch.full((4, 4, 3), place / 10) for place in places]

    def rows(self, name: str, places: range, pictures: Any) -> list[dict[str, Any]]:
        return [{"file": f"{place:05d}.png", "place": place, "process": os.getpid()} for place in places]

    def _is_to_be_lost(self, marker: Path) -> bool:
        first = not marker.exists()
        marker.touch()
        return first or self._always


def test_without_ray_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        RayError, match="needs the package ray: install it into the host's environment with 'pip install ray'"
    ):
        RayWorkers(LOCAL, Small, False)


@pytest.fixture
def ray_here(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    # Where the processes find this module.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


def finished(results: Results, work: Any, subject: Subject) -> list[list[dict[str, Any]]]:
    evaluate.make_missing(results, missing_tasks(results, subject, ERASURES, 2), work)
    return [results.rows(erasure.name, name) for erasure in ERASURES for name in subject.sets]


@pytest.mark.large
@pytest.mark.usefixtures("ray_here")
def test_a_lost_process_costs_one_chunk(tmp_path: Path) -> None:
    workers = RayWorkers(LOCAL, partial(Small, tmp_path / "lost"), False)
    try:
        found = finished(Results(tmp_path / "ray", RUN), workers, Small())
    finally:
        workers.close()
    assert (tmp_path / "lost").exists()
    alone = finished(Results(tmp_path / "alone", RUN), Worker(Small(), False), Small())
    processes = {row.pop("process") for rows in found for row in rows}
    assert os.getpid() not in processes
    assert [[{**row, "process": os.getpid()} for row in rows] for rows in found] == alone
    for rows in alone:
        for row in rows:
            files = [(tmp_path / folder / row["file"]).read_bytes() for folder in ("ray", "alone")]
            assert files[0] == files[1]


@pytest.mark.large
@pytest.mark.usefixtures("ray_here")
def test_a_chunk_that_costs_every_process_ends_the_run_and_the_rest_stays(tmp_path: Path) -> None:
    results = Results(tmp_path / "ray", RUN)
    workers = RayWorkers(LOCAL, partial(Small, tmp_path / "lost", always=True), False)
    try:
        with pytest.raises(
            RayError, match=r"3 processes were lost on chunk 1 of 'others' \(unedited( too)?\).*lower --chunk"
        ):
            finished(results, workers, Small())
    finally:
        workers.close()
    assert [row["place"] for row in results.rows("unedited", "own")] == list(range(5))


@pytest.mark.large
@pytest.mark.usefixtures("ray_here")
def test_an_error_is_told_as_without_a_cluster(tmp_path: Path) -> None:
    workers = RayWorkers(LOCAL, partial(Small, refused="own"), False)
    try:
        with pytest.raises(ValueError, match="no such prompts"):
            finished(Results(tmp_path / "ray", RUN), workers, Small())
    finally:
        workers.close()


@pytest.mark.large
@pytest.mark.usefixtures("ray_here")
def test_a_cluster_that_is_not_there() -> None:
    with pytest.raises(RayError, match=r"No Ray cluster answers at '127\.0\.0\.1:1'"):
        RayWorkers("127.0.0.1:1", Small, False)
