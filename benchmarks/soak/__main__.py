"""Hours of work on the real host: graphs of all nodes at random, with cancels, kills and restarts of the server.

    python -m benchmarks.soak --minutes 60 [--seed 0]

To be run by the host's interpreter. Looked for all along: was it answered; is a picture that no node of ours
has a part in still the same to the bit; are all saved files whole, and do they hold what was saved last; do temporary
files of yesterday go; does memory stay flat, compared with that of the host alone. Writes `results/soak.md` and ends
with 1 where something did not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from rece_pack.rece_ops import EraserSet, RECEError
from safetensors import safe_open

from benchmarks.erase_benchmark.run import machine
from benchmarks.records import RESULTS
from benchmarks.soak.graphs import NAMES, SoakGraph, control, first_save, of_the_host, random_graph
from benchmarks.soak.records import Life, Memory, Soak
from benchmarks.soak.report import failure_lines, write_report
from tools.client import Event, ExecutionError, ExecutionInterrupted, Picture, PromptRejected, Result
from tools.graph import Graph
from tools.host import Host, host_folder, prepare_comfyui
from tools.launch_comfyui import make_importable
from tools.server import ComfyServer, ServerDied
from tools.tiny_checkpoints import build

SILENT_SECONDS = 300.0
"""Whoever says nothing for so long hangs. How long a graph may take depends on who else works on the machine."""
WARM_UP = 12
"""Graphs after a start whose memory does not count: models are loaded and buffers found meanwhile."""
GRAPHS_A_LIFE = (20, 70)
GRAPHS_BETWEEN = 5
"""A picture is compared after so many graphs, and after every cancel."""
CANCELLED, KILLED = 0.2, 0.6
"""The share of graphs that are cancelled, and of lives that end by a kill."""
GRAPHS_ALONE = 40
"""Of the host without the pack."""
LOG_LINES = 60
MEMORY_ROUTE = Path(__file__).with_name("memory_route.py")
TWO_DAYS = 2 * 24 * 3600


class Runner:
    """Runs graphs on one server after the other, all in the same folder, and keeps what it finds in `soak`."""

    def __init__(self, host: Host, base: Path, checkpoint: Path, chance: random.Random) -> None:
        self.soak = Soak()
        self._host, self._base, self._checkpoint, self._chance = host, base, checkpoint, chance
        self._picture: Picture | None = None

    def run(self, seconds: float) -> Soak:
        """Live one life after another until the time is over."""
        started = time.monotonic()
        while time.monotonic() < started + seconds:
            life, failures = Life(len(self.soak.lives) + 1), len(self.soak.failures)
            self.soak.lives.append(life)
            with self._server(self._base) as server, contextlib.suppress(_Unanswered):
                self._live(server, life, self._checkpoint.name, started + seconds)
            self._check_files(f"after life {life.number}")
            self.soak.seconds = time.monotonic() - started
            print(f"[soak] life {life.number}: {len(life.memory)} graphs, {life.ending}", flush=True)
            for failure in self.soak.failures[failures:]:
                print(f"[soak] {failure}", flush=True)
        self._check_temporary_files(f"after life {len(self.soak.lives)}")
        return self.soak

    def run_host_alone(self, base: Path) -> None:
        """One more life, of a host without the pack."""
        life = self.soak.host_alone = Life(0)
        with self._server(base, pack_name=None) as server, contextlib.suppress(_Unanswered):
            for _ in range(GRAPHS_ALONE):
                self._answer(server, of_the_host(self._checkpoint.name, self._chance))
                life.memory.append(_memory(server))
            life.ending, life.trimmed = "ended", _memory(server, "?trim")

    def _server(self, base: Path, **options: Any) -> ComfyServer:
        server = ComfyServer(self._host, base, **options)
        server.link_model(self._checkpoint)
        server.link_custom_node(MEMORY_ROUTE)
        return server

    def _live(self, server: ComfyServer, life: Life, checkpoint: str, deadline: float) -> None:
        if life.number == 1:
            for name in NAMES:
                self._submit(server, first_save(checkpoint, name))
        self._compare(server, checkpoint)
        graphs = self._chance.randint(*GRAPHS_A_LIFE)
        dies = self._chance.random() < KILLED
        for number in range(graphs):
            if time.monotonic() > deadline:
                break
            graph = random_graph(checkpoint, self._chance)
            if dies and number == graphs - 1:
                self._submit(server, graph, self._killer(server))
                server.kill()
                life.ending = "killed"
                self._age_temporary_files()
                return
            cancels = self._chance.random() < CANCELLED
            self._submit(server, graph, self._canceller(server) if cancels else None)
            if cancels or number % GRAPHS_BETWEEN == 0:
                self._compare(server, checkpoint)
            life.memory.append(_memory(server))
        life.ending, life.trimmed = "ended", _memory(server, "?trim")

    def _submit(self, server: ComfyServer, graph: SoakGraph, disturb: Any = None) -> None:
        """Run a graph, and keep how it ended and what may be in its file now."""
        started = time.monotonic()
        try:
            result = self._answer(server, graph.prompt, disturb)
        except (ExecutionError, PromptRejected) as error:
            self._refused(graph, error)
        except ExecutionInterrupted:
            self._ended(graph, "cancelled")
        except TimeoutError:
            self._ended(graph, "unanswered")
            self._unanswered(server, graph.kind)
        except (ServerDied, OSError):
            self._ended(graph, "killed")
            if not isinstance(disturb, _Killer):
                self.soak.failures.append(f"The server died of '{graph.kind}'.")
                raise
        else:
            self._done(graph, result)
        self.soak.longest[graph.kind] = max(self.soak.longest[graph.kind], time.monotonic() - started)

    def _answer(self, server: ComfyServer, graph: Graph, disturb: Any = None) -> Result:
        return server.wait(server.submit(graph.prompt), SILENT_SECONDS, disturb, of_silence=True)

    def _unanswered(self, server: ComfyServer, what: str) -> NoReturn:
        """Keep where each of the server's threads is, and end this life: the next graphs would wait behind that one."""
        server.abort()
        lines = [line for line in server.log.splitlines() if line and not line.startswith("Extension modules")]
        end = " / ".join(lines[-LOG_LINES:])
        self.soak.failures.append(
            f"'{what}' was not answered: no message in {SILENT_SECONDS:.0f} s. The end of the log: {end}"
        )
        raise _Unanswered

    def _refused(self, graph: SoakGraph, error: ExecutionError | PromptRejected) -> None:
        self._ended(graph, "refused")
        ours = isinstance(error, PromptRejected) or ".errors." in error.exception_type
        if not graph.refused or not ours:
            self.soak.failures.append(f"'{graph.kind}' was refused: {str(error)[:300]}")

    def _ended(self, graph: SoakGraph, how: str) -> None:
        self.soak.outcomes[graph.kind, how] += 1
        if graph.saves in self.soak.files and how != "refused":
            self.soak.files[graph.saves].append(graph.concepts)

    def _done(self, graph: SoakGraph, result: Result) -> None:
        self.soak.outcomes[graph.kind, "done"] += 1
        if graph.refused:
            self.soak.failures.append(f"'{graph.kind}' was not refused: {graph.prompt.prompt}"[:300])
        path = graph.saves
        if graph.saved:
            path = f"erasers/{result.outputs[graph.saved]['text'][0]}"
        if path:
            self.soak.files[path] = [graph.concepts]
        if graph.saved or graph.saves:
            self._check_temporary_files(f"after '{graph.kind}'", path)

    def _compare(self, server: ComfyServer, checkpoint: str) -> None:
        graph, sampler, shown = control(checkpoint)
        try:
            result = self._answer(server, graph)
        except TimeoutError:
            self._unanswered(server, "the picture without us")
        if self._picture is not None and sampler.id not in result.executed:
            return  # the picture before, remembered
        picture = result.images(shown)[0]
        if self._picture is None:
            self._picture = picture
        elif not np.array_equal(self._picture, picture):
            self.soak.failures.append("A picture that no node of ours has a part in changed.")
        self.soak.compared += 1

    def _check_files(self, when: str) -> None:
        for path in sorted((self._base / "models" / "erasers").rglob("*.safetensors")):
            name = path.relative_to(self._base / "models").as_posix()
            try:
                concepts = tuple(EraserSet.load(path).metadata["concepts"])
            except RECEError as error:
                self.soak.failures.append(f"{name} cannot be loaded {when}: {error}")
                continue
            allowed = self.soak.files.get(name)
            if allowed is not None and concepts not in allowed:
                self.soak.failures.append(f"{name} names {concepts} {when}, not one of {allowed}.")
        for path in (self._base / "models" / "loras").glob("*.safetensors"):
            with safe_open(path, "pt") as file:
                for key in file.keys():  # noqa: SIM118 (no mapping)
                    file.get_tensor(key)
        for name in self.soak.files:
            if not (self._base / "models" / name).is_file():
                self.soak.failures.append(f"{name} is gone {when}.")

    def _age_temporary_files(self) -> None:
        """Let what a kill left be two days old, so that the next save in its folder is to remove it."""
        for path in _temporary(self._base):
            old = path.stat().st_mtime - TWO_DAYS
            os.utime(path, (old, old))
            self.soak.aged += 1

    def _check_temporary_files(self, when: str, beside: str = "") -> None:
        """After a save, nothing older than a day is left in its folder; at the end, all that is left is named."""
        for path in _temporary(self._base):
            old = path.stat().st_mtime < time.time() - TWO_DAYS / 2
            if old and (not beside or path.parent == (self._base / "models" / beside).parent):
                self.soak.failures.append(f"The temporary file {path.name} is two days old and still there {when}.")
                path.unlink()

    def _canceller(self, server: ComfyServer) -> _Canceller:
        return _Canceller(server, self._chance.randint(1, 30))

    def _killer(self, server: ComfyServer) -> _Killer:
        return _Killer(server, self._chance.randint(1, 12), self._chance.uniform(0, 0.3))


class _Unanswered(Exception):
    """A graph was not answered, which ends a life."""


class _Canceller:
    """Cancels a graph at one of its messages."""

    def __init__(self, server: ComfyServer, message: int) -> None:
        self._server, self._left = server, message

    def __call__(self, event: Event) -> None:
        self._left -= 1
        if self._left == 0:
            self._server.interrupt()


class _Killer(_Canceller):
    """Kills the server some time after one of a graph's messages."""

    def __init__(self, server: ComfyServer, message: int, delay: float) -> None:
        super().__init__(server, message)
        self._delay = delay

    def __call__(self, event: Event) -> None:
        self._left -= 1
        if self._left == 0:
            threading.Timer(self._delay, self._server.kill).start()


def _temporary(base: Path) -> list[Path]:
    return [
        path for folder in ("erasers", "loras") for path in (base / "models" / folder).rglob(".*") if path.is_file()
    ]


def _memory(server: ComfyServer, query: str = "") -> Memory:
    told = server.request(f"/soak/memory{query}")
    return Memory(_resident(server.process_id), told["in_use"], told["blocks"])


def _resident(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/{process}/status has no line VmRSS: the soak runs on Linux only.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "soak.md")
    given = parser.parse_args(arguments)
    comfyui = prepare_comfyui()
    make_importable(comfyui)
    checkpoint = build("sd15", host_folder() / "checkpoints" / "sd15.safetensors")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as alone:
        runner = Runner(Host(Path(sys.executable), comfyui), Path(folder), checkpoint, random.Random(given.seed))
        try:
            runner.run(given.minutes * 60)
            runner.run_host_alone(Path(alone))
        finally:
            write_report(runner.soak, machine("cpu"), WARM_UP, given.out)
    for sentence in failure_lines(runner.soak):
        print(f"[soak] {sentence}", flush=True)
    return 1 if runner.soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
