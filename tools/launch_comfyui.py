"""Starts ComfyUI with a CPU build of torch: ``launch_comfyui.py FOLDER [ComfyUI's arguments]``.

ComfyUI imports torchvision, and newer releases torchaudio, without ever calling their compiled parts on
the way to a picture. Neither can be imported with a CPU-only torch, so their names are supplied here, each only
where it is missing and where the ComfyUI at hand cannot do without. The host's interpreter runs this file as
a script, so it imports nothing else of this folder.
"""

from __future__ import annotations

import importlib
import os
import re
import runpy
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

# torchvision registers implementations of these two operators while it is imported, and fails where its
# compiled library, which would have defined them, did not load.
TORCHVISION_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
TORCHAUDIO_MODULES = ("torchaudio", "torchaudio.functional", "torchaudio.transforms")

# ComfyUI's core imports the modules in these folders at start. An indented import is in a try or a function.
CORE_FOLDERS = ("comfy/ldm", "comfy/text_encoders")
UNGUARDED_TORCHAUDIO = re.compile(r"^(import|from) torchaudio\b", re.MULTILINE)

_kept_alive: list[object] = []


def make_importable(comfyui: Path) -> None:
    """Let this process import the modules of the ComfyUI in `comfyui`, on the CPU where there is no GPU."""
    supply_missing_modules(comfyui)
    folder = str(comfyui)
    if folder not in sys.path:
        # First, because ComfyUI has top-level modules with common names (nodes, server, utils).
        sys.path.insert(0, folder)
    import torch

    cli_args = importlib.import_module("comfy.cli_args")
    if not torch.cuda.is_available():
        cli_args.args.cpu = True


def supply_missing_modules(comfyui: Path) -> None:
    """Stand in for the parts of torchvision and torchaudio that are missing and that this ComfyUI needs."""
    if not _imports("torchvision"):
        _define_torchvision_operators()
    if _needs_torchaudio(comfyui) and not _imports("torchaudio"):
        _stub_torchaudio()


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    # OSError: a compiled library that was built for another torch. RuntimeError: a missing operator.
    except (ImportError, OSError, RuntimeError):
        for loaded in [module for module in sys.modules if module.split(".")[0] == name]:
            del sys.modules[loaded]
        return False
    return True


def _define_torchvision_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in TORCHVISION_OPERATORS:
        library.define(operator)  # type: ignore[no-untyped-call]
    _kept_alive.append(library)  # the definitions go when the library object does


def _needs_torchaudio(comfyui: Path) -> bool:
    files = (path for folder in CORE_FOLDERS for path in (comfyui / folder).rglob("*.py"))
    return any(UNGUARDED_TORCHAUDIO.search(path.read_text(encoding="utf-8")) for path in files)


def _stub_torchaudio() -> None:
    for name in TORCHAUDIO_MODULES:
        module = ModuleType(name, "Empty stand-in: torchaudio does not import here.")
        # transformers asks importlib whether torchaudio is there, which fails on a module without a spec.
        module.__spec__ = ModuleSpec(name, None, is_package=name == "torchaudio")
        module.__path__ = []
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


def main() -> None:
    """Run ComfyUI's main.py in this process, as if it had been started itself."""
    comfyui = Path(sys.argv[1]).resolve()
    script = str(comfyui / "main.py")
    supply_missing_modules(comfyui)
    os.chdir(comfyui)
    # In place of this file's folder, whose server.py would hide ComfyUI's.
    sys.path[0] = str(comfyui)
    sys.argv = [script, *sys.argv[2:]]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
