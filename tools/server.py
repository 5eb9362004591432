"""A real ComfyUI server for tests, in a folder of its own, with the pack linked into it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tools.client import ComfyClient
from tools.host import REPOSITORY, Host
from tools.links import link

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

LAUNCHER = Path(__file__).with_name("launch_comfyui.py")
MODEL_FOLDERS = ("checkpoints", "diffusion_models", "text_encoders", "vae", "loras", "erasers")
FOLDERS = ("custom_nodes", "input", "output", "temp", "user", *(f"models/{name}" for name in MODEL_FOLDERS))
POLL_SECONDS = 0.1
LOG_LINES_SHOWN = 60


class ServerDied(Exception):
    """The server did not come up or is gone; the message ends with the last lines of its log."""


class ComfyServer(ComfyClient):
    """ComfyUI on a free port of this machine, for the length of a ``with`` block; also its client.

    `base` becomes its base directory, so that nothing is written into ComfyUI's own folder. The pack is
    linked as `pack_name` (None: not at all). `arguments` go to ComfyUI's command line. With `gpu` it uses a
    GPU where the host's torch finds one. Models may be linked at any time, nodes added before the ``with``.
    """

    def __init__(
        self,
        host: Host,
        base: Path,
        *,
        pack_name: str | None = "rece",
        arguments: Sequence[str] = (),
        gpu: bool = False,
        start_timeout: float = 180,
    ) -> None:
        super().__init__(f"127.0.0.1:{_free_port()}")
        self.base = base.resolve()
        self.log_path = self.base / "server.log"
        self._host = host
        self._arguments = arguments
        self._gpu = gpu
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        for folder in FOLDERS:
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        if pack_name is not None:
            link(REPOSITORY, self.base / "custom_nodes" / pack_name)

    def link_model(self, file: Path, folder: str = "checkpoints") -> str:
        """Link a model file into ``models/<folder>``; returns the name by which nodes find it."""
        link(file, self.base / "models" / folder / file.name)
        return file.name

    def link_custom_node(self, file: Path) -> None:
        """Link a custom node file."""
        link(file, self.base / "custom_nodes" / file.name)

    def add_custom_node(self, name: str, source: str) -> None:
        """Write a custom node file ``<name>.py``."""
        (self.base / "custom_nodes" / f"{name}.py").write_text(source, encoding="utf-8", newline="\n")

    @property
    def log(self) -> str:
        """All that the server printed so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.is_file() else ""

    def __enter__(self) -> Self:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1"}
        environment["PYTHONFAULTHANDLER"] = "1"  # where each thread is goes into the log when the process is aborted
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(), cwd=self.base, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self._wait_until_up(time.monotonic() + self._start_timeout)
            self.connect()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        self._stop()

    @property
    def process_id(self) -> int:
        """Of the running server."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def kill(self) -> None:
        """End the server without a warning, as a crash or a power cut would."""
        assert self._process is not None, "the server was not started"
        self._process.kill()
        self._process.wait()

    def abort(self) -> None:
        """End a server that hangs, which writes into its log where each of its threads is."""
        assert self._process is not None, "the server was not started"
        self._process.send_signal(signal.SIGABRT)
        self._process.wait()

    def connection_lost(self) -> Exception:
        """What to raise when the server does not answer any more."""
        return self._died("stopped answering")

    def _command(self) -> list[str]:
        port = self.address.rpartition(":")[2]
        # The server runs in another folder. An interpreter's path stays a link, which is how it knows its venv.
        python, comfyui = self._host.python.absolute(), self._host.comfyui.resolve()
        command = [str(python), str(LAUNCHER), str(comfyui)]
        command += ["--listen", "127.0.0.1", "--port", port, "--base-directory", str(self.base)]
        # Without this the database would lie in ComfyUI's own folder, shared by all servers.
        command += ["--database-url", f"sqlite:///{self.base / 'user' / 'comfyui.db'}"]
        # Nodes that call paid services are slow to import and only reach for the network.
        command += ["--disable-auto-launch", "--disable-api-nodes"]
        if not (self._gpu and _has_cuda(self._host.python)):
            command.append("--cpu")
        return [*command, *self._arguments]

    def _wait_until_up(self, deadline: float) -> None:
        while True:
            try:
                self.request("/system_stats")
                return
            except (urllib.error.URLError, OSError):
                if self._process is None or self._process.poll() is not None:
                    raise self._died("ended while it started") from None
                if time.monotonic() > deadline:
                    raise self._died(f"did not answer within {self._start_timeout:.0f} s") from None
            time.sleep(POLL_SECONDS)

    def _died(self, what: str) -> ServerDied:
        status = self._process.poll() if self._process else None
        ending = "" if status is None else f" (exit status {status})"
        tail = "\n".join(self.log.splitlines()[-LOG_LINES_SHOWN:])
        return ServerDied(f"The ComfyUI server {what}{ending}. The end of {self.log_path}:\n{tail}")

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _has_cuda(python: Path) -> bool:
    question = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([str(python), "-c", question], check=False).returncode == 0
