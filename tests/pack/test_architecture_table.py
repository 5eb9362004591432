"""The README lists the architectures as the code has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tools.architecture_table import END, START, updated


@pytest.fixture(scope="module")
def families(comfyui: Path) -> Any:
    from rece_pack.nodes.host.architectures.detection import table

    return table


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_up_to_date(families: Any, readme: str) -> None:
    assert updated(readme) == readme, "run python -m tools.architecture_table"


def test_every_model_class_is_listed_once(families: Any, readme: str) -> None:
    listed = readme.partition(START)[2].partition(END)[0]
    for family in families.FAMILIES:
        assert f"| {family.name} |" in listed
    for model_class in (*(name for family in families.FAMILIES for name in family.configurations), *families.REFUSED):
        assert listed.count(f"`{model_class}`") == 1, model_class
    for reason in families.REFUSED.values():
        assert reason in listed


def test_what_is_around_the_list_stays(families: Any, readme: str) -> None:
    before, after = readme.partition(START)[0], readme.partition(END)[2]
    assert updated(f"{before}{START}outdated{END}{after}") == readme
