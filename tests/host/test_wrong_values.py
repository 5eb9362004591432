"""Every input of every node says what it wants when it gets something else: no raw error, no work begun."""

from __future__ import annotations

import asyncio
import importlib
import math
from typing import Any

import pytest
import torch
from rece_pack.nodes.reporting.sentences import eraser_description
from rece_pack.rece_ops import Eraser, EraserSet, InputError

NODES = asyncio.run(importlib.import_module("rece_pack.nodes.extension").RECEExtension().get_node_list())
INPUTS = [
    pytest.param(node, declared, id=f"{node.GET_SCHEMA().node_id}.{declared.id}")
    for node in NODES
    for declared in node.define_schema().inputs
]

HUGE = "x" * 10**6
OBJECTS = [5, 1.5, True, "text", HUGE, "\ud800", ["1", 0], {"a": 1}, object(), torch.zeros(2), EraserSet, [[1, 2]]]
WRONG: dict[str, list[Any]] = {
    "INT": ["5", HUGE, True, None, 1.5, math.nan, math.inf, [1], {}, 10**400],
    "FLOAT": ["0.5", HUGE, True, None, math.nan, math.inf, -math.inf, [1.0], {}, 10**400],
    "BOOLEAN": ["true", 0, 1, None, [True], {}],
    "STRING": [5, None, True, ["a"], {}, "\ud800", "a\udfffb", b"bytes", "x" * (2**20 + 1)],
    "COMBO": [5, None, True, ["nudity"], {}, b"nudity"],
    "MODEL": OBJECTS,
    "MODEL,ERASER": OBJECTS,
    "CLIP": OBJECTS,
    "CLIP_VISION": OBJECTS,
    "VAE": OBJECTS,
    "ERASER": OBJECTS,
    "CONDITIONING": [one for one in OBJECTS if one is not None],
    "IMAGE": [*OBJECTS, torch.zeros(64, 64, 3), torch.zeros(1, 64, 64, 1), torch.zeros(1, 8, 8, 3, dtype=torch.uint8)],
}

CONNECTIONS = ("MODEL", "MODEL,ERASER", "CLIP", "CLIP_VISION", "VAE", "ERASER", "CONDITIONING", "IMAGE")


def kind_of(declared: Any) -> str:
    return str(declared.get_io_type())


@pytest.mark.parametrize(("node", "declared"), INPUTS)
def test_an_input_says_what_it_wants(node: Any, declared: Any) -> None:
    for value in WRONG[kind_of(declared)]:
        others = {one.id: sound(one) for one in node.define_schema().inputs}
        with pytest.raises(InputError, match=declared.id) as caught:
            node.execute(**as_given(node, {**others, declared.id: value}))
        message = str(caught.value)
        assert len(message) < 400
        message.encode("utf-8")
        if kind_of(declared) in CONNECTIONS:
            assert f"The {kind_of(declared).replace(',', ' or ')} input '{declared.id}' got" in message
            assert "connect the" in message


def as_given(node: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The values as the host passes them: in lists, where a node takes lists."""
    return {name: [value] for name, value in values.items()} if node.GET_SCHEMA().is_input_list else values


def sound(declared: Any) -> Any:
    """A value that passes the check of its type; None for what is connected."""
    default = getattr(declared, "default", None)
    if default is None and kind_of(declared) == "COMBO":
        return "none"
    return default


def test_a_choice_by_number_is_refused_where_the_host_lets_it_through() -> None:
    load = next(node for node in NODES if node.GET_SCHEMA().node_id == "RECE_LoadEraser")
    with pytest.raises(InputError, match="'eraser_name' is 5, which is no choice: take one from the list"):
        load.fingerprint_inputs(eraser_name=5)


def eraser(**metadata: Any) -> EraserSet:
    left = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    return EraserSet({"text": Eraser(left, left.T.contiguous())}, metadata)


@pytest.mark.parametrize(
    "metadata",
    [
        {"method": "Error: the model is damaged"},
        {"method": "Warning: pay here"},
        {"method": "RECE\nError: b"},
        {"method": "RECE", "architecture": "SD1\nError: b"},
        {"method": "RECE", "concepts": ["a\nError: b", "c\u2028Warning: d"], "targets": ["\rError: e", ""]},
        {"method": "RECE", "preserve": ["a\nError: b"]},
        {"method": "RECE", "strength": "1\nError: b"},
        {"method": "combined", "parts": [{"method": "Error:"}, {"method": "UCE", "architecture": "\x85Error:"}]},
        {"method": ["Error:"], "concepts": ["\ud800\u202e"], "targets": ["\udfff"]},
    ],
)
def test_provenance_cannot_forge_a_line_of_a_report(metadata: dict[str, Any]) -> None:
    try:
        text = eraser_description(eraser(**metadata))
    except InputError as error:
        # Most of it cannot even become provenance; what says so is one line.
        text = f"refused: {error}\n"
        assert len(text.splitlines()) == 1
        return
    lines = text.splitlines()
    assert len(lines) == 2
    assert not any(line.startswith(("Error:", "Warning:")) for line in lines)
    text.encode("utf-8")


def test_a_report_of_endless_provenance_is_short() -> None:
    many = {
        "method": "RECE",
        "concepts": ["x" * 20_000] * 1000,
        "targets": ["y" * 20_000] * 1000,
        "preserve": ["z"] * 10**5,
    }
    assert len(eraser_description(eraser(**many))) < 20_000
