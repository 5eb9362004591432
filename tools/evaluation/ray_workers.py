"""Tasks done by many processes on one or many machines, through Ray (`pip install ray`), which is imported only here.

One process for each GPU of the cluster, or for each core where it has none. A process that is lost costs the chunk that it
was making: that one is given out again, to a new process. The results folder is written by this process alone, so that the
machines need no folder in common; a checkpoint, prompt sets and erasers must lie at the same paths on all of them, and so must
this repository with its environment, whose `ray start` begins the cluster.
"""

from __future__ import annotations

import importlib
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from tools.evaluation.chunks import ChunkName
from tools.evaluation.work import Done, Subject, Task, Worker
from tools.host import REPOSITORY

LOCAL = "local"
"""The address of a cluster that is started for this run, on this machine alone."""
SECONDS = 10.0
"""How long a cluster may take to answer."""
LOSSES = 3
"""A chunk on which so many processes were lost is the cause, not the victim."""


class RayError(Exception):
    """Ray is not there, or processes are lost again and again; the message says what to do."""


class RayWorkers:
    """A cluster's processes.

    Args:
        address: of a cluster that runs, as Ray writes it ('auto', '10.0.0.1:6379'), or `LOCAL`.
        open_subject: makes the subject, in each process anew; called without arguments.
        preserve: see `Worker`.

    Raises:
        RayError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, address: str, open_subject: Callable[[], Subject], preserve: bool) -> None:
        self._ray = ray = _ray()
        environment = {"env_vars": _variables()}
        try:
            _check_answers(address)
            ray.init(None if address == LOCAL else address, runtime_env=environment)
        except (OSError, ValueError) as error:
            raise RayError(f"No Ray cluster answers at '{address}' ({error}). Start one, or give '{LOCAL}'.") from None
        machines = ray.cluster_resources()
        gpus = int(machines.get("GPU", 0))
        self.count = gpus or max(1, int(machines.get("CPU", 1)))
        options = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        self._actor = ray.remote(**options)(_RemoteWorker)
        self._arguments = (open_subject, preserve)

    def close(self) -> None:
        """End this run's processes, and the cluster if it was started for it."""
        self._ray.shutdown()

    def __call__(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Done]]:
        """Every task with what came of it, in the order in which they are finished.

        Raises:
            RayError: a chunk cost one process after the other.
            RECEError: an erasure cannot be made; as in a process alone.
        """
        waiting, losses = list(reversed(tasks)), Counter[ChunkName]()
        running: dict[Any, tuple[Task, Any]] = {}
        for worker in [self._started() for _ in range(min(self.count, len(tasks)))]:
            self._give(waiting, worker, running)
        while running:
            (reference,), _ = self._ray.wait(list(running))
            task, worker = running.pop(reference)
            try:
                rows, pictures, seconds, size = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, Exception) else error from None
            except self._ray.exceptions.RayError as error:
                losses[task.chunk] += 1
                if losses[task.chunk] == LOSSES:
                    raise RayError(_lost(task, error)) from None
                waiting.append(task)
                worker = self._started()
            else:
                yield task, Done(rows, [torch.from_numpy(one.copy()) for one in pictures], seconds, size)
            self._give(waiting, worker, running)

    def _started(self) -> Any:
        return self._actor.remote(*self._arguments)

    @staticmethod
    def _give(waiting: list[Task], worker: Any, running: dict[Any, tuple[Task, Any]]) -> None:
        if waiting:
            task = waiting.pop()
            running[worker.do.remote(task)] = (task, worker)


class _RemoteWorker:
    """A `Worker` in a process of the cluster."""

    def __init__(self, open_subject: Callable[[], Subject], preserve: bool) -> None:
        self._worker = Worker(open_subject(), preserve)

    def do(self, task: Task) -> tuple[list[dict[str, Any]], list[Any], float, int]:
        """What `Done` holds, as values that every process can read without a GPU."""
        done = self._worker.do(task)
        pictures = [picture.float().cpu().numpy() for picture in done.pictures]
        return [dict(row) for row in done.rows], pictures, done.seconds, done.size


def _ray() -> Any:
    try:
        # By name, because the type checker runs where it is not installed.
        ray = importlib.import_module("ray")
        importlib.import_module("ray.exceptions")
    except ImportError:
        raise RayError(
            "--ray needs the package ray: install it into the host's environment with 'pip install ray'."
        ) from None
    return ray


def _check_answers(address: str) -> None:
    """Ray itself would wait for many minutes.

    Raises:
        OSError: nothing answers there.
        ValueError: the port is no number.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), SECONDS).close()


def _variables() -> dict[str, str]:
    """Of a process: this repository to import from, and one thread, because there is a process for every core."""
    # Ray puts the machine's own value in the place of ${…}.
    path = f"{REPOSITORY}{os.pathsep}${{PYTHONPATH}}"
    return {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def _lost(task: Task, error: Exception) -> str:
    chunk = task.chunk
    return (
        f"{LOSSES} processes were lost on chunk {chunk.number} of '{chunk.prompts}' ({task.erasure.name}), the last one "
        f"with: {str(error).strip().splitlines()[0]} If memory ran out, lower --chunk or start fewer processes on a machine."
    )
