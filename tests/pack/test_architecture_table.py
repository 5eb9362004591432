"""The documentation lists the architectures as the code has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tools.architecture_table import END, START, updated


@pytest.fixture(scope="module")
def families(comfyui: Path) -> Any:
    from rece_pack.nodes.host.architectures import table

    return table


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "architectures.md").read_text(encoding="utf-8")


def test_the_page_is_up_to_date(families: Any, page: str) -> None:
    assert updated(page) == page, "run python -m tools.architecture_table"


def test_every_model_class_is_listed_once(families: Any, page: str) -> None:
    listed = page.partition(START)[2].partition(END)[0]
    for family in families.FAMILIES:
        assert f"| {family.name} |" in listed
    for model_class in (*(name for family in families.FAMILIES for name in family.configurations), *families.REFUSED):
        assert listed.count(f"`{model_class}`") == 1, model_class
    for reason in families.REFUSED.values():
        assert reason in listed


def test_what_is_around_the_list_stays(families: Any, page: str) -> None:
    before, after = page.partition(START)[0], page.partition(END)[2]
    assert updated(f"{before}{START}outdated{END}{after}") == page
