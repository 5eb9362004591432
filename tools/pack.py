"""The pack as ComfyUI imports it: a package whose name is the host's choice, whatever the checkout is called."""

from __future__ import annotations

import importlib.util
import sys

from tools.host import REPOSITORY
from tools.links import link

PACK = "rece_pack"
"""The name that everything outside ComfyUI imports it by."""


def import_pack() -> None:
    """Make `rece_pack` importable. What is in it is imported when asked for, and `rece_pack.nodes` needs ComfyUI."""
    if PACK in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        PACK, REPOSITORY / "__init__.py", submodule_search_locations=[str(REPOSITORY)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)


def link_pack() -> None:
    """Put the pack where the type checker's configuration in pyproject.toml finds it by its name."""
    folder = REPOSITORY / ".host" / "types"
    folder.mkdir(parents=True, exist_ok=True)
    link(REPOSITORY, folder / PACK)
