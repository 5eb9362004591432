"""Payloads of every node, against the real server: each is answered, and a sound one still runs at the end."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import every_node
import hypothesis.strategies as st
import pytest
from rece_pack.rece_ops import InputError

from tools.client import ExecutionError, PromptRejected
from tools.host import Host
from tools.server import ComfyServer

CHECKPOINT = "sd15.safetensors"
ANSWER_SECONDS = 120
# Not more than these, or a sound graph would run for hours.
SMALL = {"steps": 2, "batch": 2, "tokens": 80, "epochs": 2, "directions": 8, "max_rank": 4096}
SMALL |= {"pictures": 1, "retained_pictures": 1, "size": 64, "picture_steps": 1, "retained_batch": 2, "adversaries": 4}
SMALL |= {"rank": 4}
TEXT = st.text(st.characters(), max_size=30) | st.sampled_from(
    ["a -> b", "a : 0.5", "embedding:x", "$\\frac{$", "../x", "CON"]
)
LITERALS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | TEXT
JSON = LITERALS | st.lists(LITERALS, max_size=3) | st.dictionaries(TEXT, LITERALS, max_size=2)
# The host unwraps a value after it has looked for links, and takes a wrapped pair for a link to a node. Where there is
# no such node, its worker ends: nothing that a pack could do about it.
JSON |= JSON.filter(lambda value: not (isinstance(value, list) and len(value) == 2)).map(
    lambda value: {"__value__": value}
)


@pytest.fixture(scope="module")
def fuzzed(
    host: Host, checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    """A server of its own: if one of these graphs ends it, the others' go on."""
    server = ComfyServer(host, tmp_path_factory.mktemp("fuzzed"))
    server.link_model(checkpoint("sd15"))
    every_node.prepare(server)
    with server:
        yield server


def payloads(server: ComfyServer) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """A node, and what some of its inputs get."""

    def of_node(node: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
        described = server.object_info(node)["input"]
        inputs = {**described["required"], **described.get("optional", {})}
        values = {name: value_of(name, *declared) for name, declared in inputs.items()}
        chosen = st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=3, unique=True)
        return chosen.flatmap(lambda names: st.fixed_dictionaries({name: values[name] for name in names})).map(
            lambda wrong: (node, wrong)
        )

    return st.sampled_from(list(every_node.BUILD)).flatmap(of_node)


def value_of(name: str, kind: str, options: Any = None) -> st.SearchStrategy[Any]:
    options = options or {}
    fit: st.SearchStrategy[Any] = JSON
    if kind == "INT":
        fit = st.integers(options["min"], min(options["max"], SMALL.get(name, options["max"])))
        return fit | JSON.filter(lambda value: not costly(value, fit_limit(name)))
    if kind == "FLOAT":
        fit = st.floats(options["min"], options["max"])
    if kind == "COMBO":
        fit = st.sampled_from(options["options"] or [""])
    return fit | JSON


def fit_limit(name: str) -> int:
    return SMALL.get(name, 2**63)


def costly(value: Any, limit: int) -> bool:
    """Whether the host would make a number of it that is allowed, and takes long."""
    if isinstance(value, dict):
        value = value.get("__value__")
    try:
        return int(value) > limit
    except (TypeError, ValueError, OverflowError):
        return False


def is_meant_for_a_person(error: ExecutionError) -> bool:
    """Whether the error is one of the pack's own about inputs; the host names it by where it loaded the pack from."""
    _, inside, name = error.exception_type.partition("custom_nodes/rece.")
    module, _, kind = name.rpartition(".")
    return bool(inside) and issubclass(getattr(importlib.import_module(f"rece_pack.{module}"), kind), InputError)


def test_payloads(fuzz: Any, fuzzed: ComfyServer) -> None:
    def check(payload: tuple[str, dict[str, Any]]) -> None:
        node, wrong = payload
        failure = None
        try:
            fuzzed.run(every_node.graph_of(node, CHECKPOINT, wrong).prompt, timeout=ANSWER_SECONDS)
        except PromptRejected:
            return
        except ExecutionError as error:
            failure = error
        if failure is not None:
            assert is_meant_for_a_person(failure), failure
            assert len(failure.message) < 1000
            failure.message.encode("utf-8")

    fuzz(payloads(fuzzed), check, 60)
    for node in every_node.BUILD:
        every_node.run_sound(fuzzed, node, CHECKPOINT)
