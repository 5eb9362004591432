"""Peak memory of a stretch of code."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from types import TracebackType

import torch

_STATUS = Path("/proc/self/status")


def release_free_memory() -> None:
    """Return freed heap memory to the system, so that using it again counts as growth (glibc)."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class PeakMemory:
    """A `with` block that finds how far memory rose above where it was at the start.

    On the CPU this is the process's resident memory (Linux), which counts the buffers of the linear algebra
    library too; on a GPU what torch allocated there.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = 0
        self.extra_bytes = 0

    def __enter__(self) -> PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            # 5 resets the peak that VmHWM reports, see proc(5).
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii", newline="\n")
            self._before = _resident("VmRSS")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        peak = torch.cuda.max_memory_allocated() if self._device.type == "cuda" else _resident("VmHWM")
        self.extra_bytes = peak - self._before


def tensor_peak(run: Callable[[], object]) -> int:
    """How far torch's allocations on the CPU rise while `run` runs, in bytes: without buffers of the linear algebra library."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    assert profile.profiler is not None
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())), default=0)


def _resident(field: str) -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no line {field}: memory can be measured on Linux only.")
