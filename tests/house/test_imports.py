"""Imports only ever point down the layers of the house, ComfyUI stays behind `nodes.host`, and nothing goes in circles."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("rece_ops", "nodes", "benchmarks", "pocket_model", "tools")

LAYERS = (
    ("rece_ops",),
    ("nodes.request",),
    ("nodes.host",),
    ("nodes.schema", "nodes.reporting"),
    ("nodes",),
)
"""From the ground up; a module belongs to the longest name that it begins with."""

ROOMS = {
    "rece_ops": (
        ("errors", "progress", "texts"),
        ("settings", "provenance", "schedule"),
        ("shape",),
        ("pairs",),
        ("linear",),
        ("formats",),
        ("eraser", "weight_change", "sparse_change", "adapters"),
        ("low_rank", "eraser_set"),
        ("attacks",),
        ("methods",),
        ("measures",),
        ("training",),
    ),
    "nodes.host": (
        ("errors", "protocols", "progress", "device", "folders", "connections", "log", "routes", "workflow"),
        ("architectures",),
        ("patching",),
        ("text", "detectors"),
        ("session",),
        ("stored", "training"),
        ("jobs",),
    ),
}
"""The same within a layer."""

HOST_MODULES = ("comfy", "folder_paths", "nodes", "execution", "server")
"""ComfyUI's own, of which only `comfy_api` may be imported above `nodes.host`."""


def modules() -> dict[str, ast.Module]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = modules()


def imported(name: str, known: Mapping[str, object] = MODULES) -> Iterator[tuple[str, bool]]:
    """What a module imports, and whether it does so when it is imported itself (not only inside a function)."""
    package = name if (ROOT / name.replace(".", "/")).is_dir() else name.rpartition(".")[0]
    tree = MODULES[name]
    at_top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.removeprefix("rece_pack."), id(node) in at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])]).removeprefix("rece_pack.")
            for alias in node.names:
                inner = f"{target}.{alias.name}"
                yield (inner if inner in known else target), id(node) in at_top


def place(name: str, layers: tuple[tuple[str, ...], ...]) -> int | None:
    """The floor of a module, by the longest name that it begins with."""
    floors = {prefix: floor for floor, prefixes in enumerate(layers) for prefix in prefixes}
    fitting = [prefix for prefix in floors if name == prefix or name.startswith(f"{prefix}.")]
    return floors[max(fitting, key=len)] if fitting else None


def upward(layers: tuple[tuple[str, ...], ...]) -> list[str]:
    found = []
    for name in MODULES:
        floor = place(name, layers)
        for target, _ in imported(name):
            above = place(target, layers)
            if floor is not None and above is not None and above > floor:
                found.append(f"{name} imports {target}")
    return found


def test_imports_point_down_the_layers() -> None:
    assert upward(LAYERS) == []


@pytest.mark.parametrize("package", ROOMS)
def test_imports_point_down_within_a_layer(package: str) -> None:
    rooms = tuple(tuple(f"{package}.{room}" for room in floor) for floor in ROOMS[package])
    known = {name for floor in rooms for name in floor}
    children = {
        ".".join(name.split(".")[: package.count(".") + 2]) for name in MODULES if name.startswith(f"{package}.")
    }
    assert children <= known, "give the new room a floor in ROOMS"
    assert upward(rooms) == []


def test_only_the_host_layer_imports_comfyui() -> None:
    found = []
    for name in MODULES:
        if name.startswith(("rece_ops", "nodes")) and not name.startswith("nodes.host"):
            tops = [target.partition(".")[0] for target, _ in imported(name) if target not in MODULES]
            found += [f"{name} imports {top}" for top in tops if top in HOST_MODULES]
            if name.startswith(("rece_ops", "nodes.request")):
                found += [f"{name} imports {top}" for top in tops if top.startswith("comfy")]
    assert found == []


def test_the_mathematics_needs_torch_and_safetensors_only() -> None:
    import sys

    allowed = {*sys.stdlib_module_names, "torch", "safetensors", "rece_ops"}
    found = [
        f"{name} imports {target}"
        for name in MODULES
        if name.startswith("rece_ops")
        for target, _ in imported(name)
        if target.partition(".")[0] not in allowed
    ]
    assert found == []


def test_what_is_imported_exists() -> None:
    missing = [
        f"{name} imports {target}"
        for name in MODULES
        for target, _ in imported(name)
        if (target.partition(".")[0] in ("rece_ops", "benchmarks", "pocket_model", "tools") and target not in MODULES)
        or (target.startswith("nodes.") and target not in MODULES)
    ]
    assert missing == []


def test_there_are_no_circles() -> None:
    graph = {name: {target for target, _ in imported(name) if target in MODULES} for name in MODULES}
    # A package's own __init__ is only a door to its modules.
    done: set[str] = set()
    for start in graph:
        circle = _circle(start, graph, [], done)
        assert circle is None, " → ".join(circle or ())


def _circle(name: str, graph: Mapping[str, set[str]], path: list[str], done: set[str]) -> list[str] | None:
    if name in path:
        return [*path[path.index(name) :], name]
    if name in done:
        return None
    for target in sorted(graph[name]):
        found = _circle(target, graph, [*path, name], done)
        if found is not None:
            return found
    done.add(name)
    return None


LATE = ("nodes.host.jobs", "nodes.host.session", "nodes.reporting")
"""What a node needs only when it runs. Imported with the node, it would keep everybody waiting who starts ComfyUI."""

EARLY = {"nodes.host.jobs.sample"}
"""Has the samplers and defaults that inputs show."""


@pytest.mark.parametrize(
    "path", sorted((ROOT / "nodes").glob("*.py")) + sorted((ROOT / "nodes").glob("[ae]*/*.py")), ids=str
)
def test_a_node_imports_its_work_when_it_runs(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    early = {name for statement in tree.body for name in _imported(module, statement)}
    late = {name for name in early if name.startswith(LATE)} - EARLY
    assert late == set()


def _imported(module: str, statement: ast.stmt) -> set[str]:
    """The modules of this repository that a statement imports; what only the type checker reads is not imported."""
    if not isinstance(statement, ast.ImportFrom) or not statement.level:
        return set()
    package = module.split(".")[: -statement.level]
    return {".".join([*package, statement.module or ""])}
