"""The evaluation's results: whole chunks or none, whatever happens in the middle, and a page that tells what is in them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rece_pack.rece_ops.measures.rates import Rate

from tools.evaluation import command as evaluate
from tools.evaluation import table
from tools.evaluation.chunks import ChunkName, Results, WrongRunError, chunked, safe_name
from tools.evaluation.columns import Columns
from tools.evaluation.erasures import Erased, Erasure
from tools.evaluation.metrics.metric import Measured
from tools.evaluation.page import write_all
from tools.evaluation.pareto import Point, front, points
from tools.evaluation.published import Published
from tools.evaluation.summary import Line, summarise
from tools.evaluation.table import Told, by_class
from tools.evaluation.work import Worker, missing_tasks

RUN = {"model": "small", "count": 5}
SETS = {"own": 5, "synonyms": 3, "others": 4}
ERASURES = [Erasure("unedited"), Erasure("unedited too")]
COLUMNS = Columns(("own", "synonyms"), ("others",), ("own", "synonyms", "others"))


class Subject:
    """Something to evaluate that makes pictures of one colour, and writes down which."""

    model = clip = None
    concepts = preserve = ""

    def __init__(self, log: Path, stop_after: int = 10**6) -> None:
        self.sets = {name: SimpleNamespace(captions=range(count)) for name, count in SETS.items()}
        self._log, self._left = log, stop_after

    def pictures(self, erased: Erased, name: str, places: range) -> torch.Tensor:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{name} {places.start}\n")
        self._left -= 1
        if self._left < 0:
            sys.exit("killed here")
        return torch.stack([torch.full((8, 8, 3), place / 10) for place in places])

    def rows(self, name: str, places: range, pictures: torch.Tensor) -> list[dict[str, Any]]:
        return [
            {
                "file": f"{place:05d}.png",
                "place": place,
                "prompt": f"{name} {place}",
                "shown": place == 0,
                "right": place != 1,
            }
            for place in places
        ]


def make_missing(results: Results, subject: Any) -> None:
    evaluate.make_missing(results, missing_tasks(results, subject, ERASURES, 2), Worker(subject, False))


def all_places(results: Results) -> list[list[int]]:
    return [[row["place"] for row in results.rows(erasure.name, name)] for erasure in ERASURES for name in SETS]


WHOLE = [list(range(count)) for _ in ERASURES for count in SETS.values()]

KILLED = """
import os, sys
from pathlib import Path
from tools.pack import import_pack
import_pack()
from tests.tools import test_evaluation as t
from tools.evaluation import chunks

folder, number, where = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
real, calls = os.replace, 0

def counted(source, target):
    global calls
    calls += Path(target).parent.parent.parent.name == "pictures"
    if calls == number and where == "before":
        os._exit(9)
    real(source, target)
    if calls == number and where == "after":
        os._exit(9)

chunks.os.replace = counted
t.make_missing(t.Results(folder, t.RUN), t.Subject(folder.parent / "log"))
"""


@pytest.mark.parametrize(
    ("number", "where"),
    [
        (1, "before"),
        (9, "after"),
        *(pytest.param(*one, marks=pytest.mark.large) for one in ((1, "after"), (7, "before"), (14, "before"))),
    ],
)
def test_a_run_that_is_killed_loses_no_picture_and_makes_none_twice(
    tmp_path: Path, root: Path, number: int, where: str
) -> None:
    folder, log = tmp_path / "results", tmp_path / "log"
    code = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(number), where], cwd=root, check=False, capture_output=True
    )
    assert code.returncode == 9, code.stderr.decode()
    results = Results(folder, RUN)
    assert not list(folder.glob("**/.unfinished-*"))
    done = number - (where == "before")
    assert sum(len(one) for one in all_places(results)) == sum(list(sizes())[:done])
    make_missing(results, Subject(log))
    assert all_places(results) == WHOLE
    assert len(list(folder.glob("pictures/*/*/*/*.png"))) == 2 * sum(SETS.values())
    # Only the chunk that was being written when it was killed was sampled again.
    assert len(log.read_text(encoding="utf-8").splitlines()) == 14 + (where == "before")


def sizes() -> list[int]:
    """Pictures in every chunk of two, in order."""
    return [len(places) for _ in ERASURES for count in SETS.values() for places in chunked(count, 2)]


def test_a_complete_run_samples_nothing_again(tmp_path: Path) -> None:
    results = Results(tmp_path / "results", RUN)
    make_missing(results, Subject(tmp_path / "log"))
    make_missing(Results(tmp_path / "results", RUN), Subject(tmp_path / "log", 0))
    assert all_places(results) == WHOLE


def test_a_full_disk_leaves_no_half_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, name = Results(tmp_path, RUN), ChunkName("a", "b", 0)
    real, saved = Image.Image.save, []

    def full(self: Image.Image, *args: Any, **kwargs: Any) -> None:
        saved.append(1)
        if len(saved) == 2:
            raise OSError(28, "No space left on device")
        real(self, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", full)
    rows = [{"file": f"{place}.png"} for place in range(3)]
    with pytest.raises(OSError, match="No space left"):
        results.add(name, rows, torch.zeros(3, 4, 4, 3))
    assert not results.has(name)
    assert [path.name for path in (tmp_path / "pictures").rglob("*") if path.is_file()] == []
    monkeypatch.undo()
    results.add(name, rows, torch.zeros(3, 4, 4, 3))
    assert results.has(name)


def test_the_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    Results(tmp_path / "a", RUN)
    with pytest.raises(WrongRunError, match="holds another run, which differs in count: give another folder"):
        Results(tmp_path / "a", {**RUN, "count": 6})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(WrongRunError, match=r"is not empty and holds no run\.json"):
        Results(tmp_path / "b", RUN)
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["RECE, 3 epochs", "../up", "a/b", "", "x" * 300, "β = 30", ".hidden", "CON:"])
def test_names_become_file_names(name: str) -> None:
    found = safe_name(name)
    assert 0 < len(found) <= 80
    assert not set(found) & set('/\\:*?"<>| ')
    assert not found.startswith(".")


def test_the_page_says_what_is_in_the_chunks(tmp_path: Path) -> None:
    results = Results(tmp_path, RUN)
    make_missing(results, Subject(tmp_path.parent / "log"))
    results.note("erasure unedited too", {"seconds": 1.5, "size": 2**20})
    lines = summarise(results, [erasure.name for erasure in ERASURES], COLUMNS)
    assert dict(lines[0].rates) == {"own": Rate(1, 5), "synonyms": Rate(1, 3), "others": Rate(3, 4)}
    # Three quotients, their sum and another quotient, here and there.
    assert lines[0].harmonic == pytest.approx(3 / (1 / 0.8 + 3 / 2 + 4 / 3), rel=16 * 2**-53)
    page = write_all(results, lines, COLUMNS, Told("“a” <b>"))
    text = page.read_text(encoding="utf-8")
    assert "<b>" not in text
    assert text.count("data:image/png;base64,") == 3
    assert "http" not in text
    table = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert table[2].startswith("| erasure | own ↓ | synonyms ↓ | others ↑ | change ↓ | H_o ↑ | seconds | size |")
    assert table[5] == "| unedited too | 20% (4–62) | 33% (6–79) | 75% (30–95) | 0.0% | 73% | 1.5 | 1.0 MiB |"
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 2 * sum(SETS.values())
    assert all((tmp_path / row["file"]).is_file() for row in rows)
    with Image.open(tmp_path / "grid.png") as grid:
        # Of three sets, two rows each.
        assert grid.width > 8 * 96
        assert 6 * 96 < grid.height < 7 * 96 + 60


def test_classes_and_published_rows_stand_beside_ones_own() -> None:
    columns = Columns(("own", "own, attacked"), (), attacked=("own, attacked",))
    rates = {"own": Rate(1, 2), "own, attacked": Rate(2, 2)}
    measured = (Measured("FID ↓", 17.25, None, 30, 40, digits=2),)
    lines = [
        Line("unedited", rates, None, None, 0, 0, (Measured("FID ↓", None),), {"own": 2}, {"FEET": 2, "BELLY": 1}),
        Line("UCE", rates, None, 0.5, 1.0, 2**20, measured, {"own": 2}, {"FEET": 1}),
    ]
    assert columns.asking == ("own",)
    assert by_class(lines) == [["class", "unedited", "UCE"], ["BELLY", "1", "0"], ["FEET", "2", "1"]]
    assert by_class([lined("a", 1, None, None)]) == []
    told = Told("t", ("FID is a distance.",), (Published("a paper", {"FID ↓": "18.2"}, "its table 1."),))
    foreign = table.rows(lines, columns, told.published)[-1]
    assert dict(zip(table.heads(lines, columns), foreign, strict=True)) == {
        **dict.fromkeys(table.heads(lines, columns), "no source"),
        "erasure": "a paper",
        "FID ↓": "18.2",
    }
    assert table.notes(lines, columns, told)[1:] == ["FID is a distance.", "a paper: its table 1."]
    record = table.record(lines, columns, told)
    assert record["erasures"][1]["metrics"]["FID"] == {"value": 17.25, "spread": None, "pictures": 30, "against": 40}
    assert json.loads(json.dumps(record)) == record


def test_a_class_counts_once_a_picture(tmp_path: Path) -> None:
    def found(*labels: str) -> dict[str, Any]:
        return {"findings": [{"label": label, "score": 0.7, "box": [1, 1, 2, 2]} for label in labels]}

    results, columns = Results(tmp_path, RUN), Columns(("own", "attacked"), (), attacked=("attacked",))
    pictures = torch.zeros(3, 4, 4, 3)
    for name in columns.erased:
        given = (found("FEET", "FEET"), found("FEET", "BELLY"), {"findings": [{"label": "whole", "box": None}]})
        rows = [{"file": f"{place}.png", "shown": True, **one} for place, one in enumerate(given)]
        results.add(ChunkName("unedited", name, 0), rows, pictures)
    (line,) = summarise(results, ["unedited"], columns)
    assert line.classes == {"FEET": 2, "BELLY": 1}


def test_erasures_on_the_command_line(tmp_path: Path) -> None:
    from rece_pack.rece_ops import InputError

    assert Erasure.parsed(["RECE", "preset=custom", "epochs=3"]) == Erasure("RECE", {"preset": "custom", "epochs": "3"})
    for words in (["a", f"eraser={tmp_path / 'none'}"], ["a", f"lora={__file__}", "epochs=3"]):
        with pytest.raises(InputError, match="takes a file that is there, and nothing else"):
            Erasure.parsed(words)


def test_a_sweep_is_every_combination_of_values() -> None:
    found = Erasure.swept(["RECE", "preset=custom", "epochs=0,3", "erase_scale=1,2"])
    assert [erasure.name for erasure in found] == [
        f"RECE epochs={epochs} erase_scale={scale}" for epochs in "03" for scale in "12"
    ]
    assert found[1].settings == {"preset": "custom", "epochs": "0", "erase_scale": "2"}
    assert Erasure.swept(["UCE", "preset=UCE only"]) == [Erasure("UCE", {"preset": "UCE only"})]


def lined(name: str, left: int, right: int | None, change: float | None) -> Line:
    kept = Rate(right, 10) if right is not None else Rate(0, 0)
    return Line(name, {"own": Rate(left, 10), "synonyms": Rate(0, 0), "others": kept}, None, change, 0.0, 0)


def test_the_front_is_what_no_other_erasure_beats() -> None:
    lines = [lined(*one) for one in (("a", 9, 10, None), ("b", 1, 9, 0.1), ("c", 1, 8, 0.0), ("d", 0, 2, 0.5))]
    found = points(lines, COLUMNS)
    assert [(one.left, one.price) for one in found] == [(0.9, 0.0), (0.1, 1 - 0.9), (0.1, 1 - 0.8), (0.0, 1 - 0.2)]
    assert [one.name for one in front(found)] == ["d", "b", "a"]


def test_where_nothing_judges_the_kept_pictures_their_change_is_the_price() -> None:
    lines = [lined("unedited", 9, None, None), lined("a", 2, None, 0.25)]
    assert points(lines, COLUMNS) == [Point("a", 0.2, 0.25)]
    # Two kinds of price are never put beside each other.
    assert [one.name for one in points([*lines, lined("b", 0, 5, 0.1)], COLUMNS)] == ["b"]


@given(st.lists(st.builds(Point, st.text(max_size=3), *2 * [st.integers(0, 4).map(float)]), max_size=12))
def test_every_point_is_on_the_front_or_beaten_by_one_that_is(found: list[Point]) -> None:
    best = front(found)
    assert all(one in best or any(other.beats(one) for other in best) for one in found)
    assert not any(one.beats(other) for one in best for other in best)


def test_the_run_file_can_be_read(tmp_path: Path) -> None:
    Results(tmp_path, RUN)
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8")) == RUN
