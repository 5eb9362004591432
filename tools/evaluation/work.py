"""What is left to do of a run, and doing it: chunks of pictures, each of one erasure and one prompt set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from tools.evaluation.chunks import ChunkName, Results, chunked
from tools.evaluation.erasures import Erased, Erasure, make


class Subject(Protocol):
    """What is evaluated: a model with its prompt sets, and something that looks at its pictures."""

    name: str
    sets: Mapping[str, Any]

    @property
    def concepts(self) -> str:
        """As the node's input."""

    @property
    def preserve(self) -> str:
        """What a careful person would preserve, as the node's input."""

    @property
    def model(self) -> Any:
        """As it is."""

    @property
    def clip(self) -> Any:
        """Its text encoder."""

    def pictures(self, erased: Erased, name: str, places: range) -> Iterable[Tensor]:
        """[height, width, 3] in 0 … 1 of some of a set's prompts."""

    def rows(self, name: str, places: range, pictures: Any) -> list[dict[str, Any]]:
        """What each picture shows."""


@dataclass(frozen=True)
class Task:
    """One chunk: which, by which erasure, and of which of its set's prompts."""

    erasure: Erasure
    chunk: ChunkName
    places: range


@dataclass(frozen=True)
class Done:
    """A task's chunk, and what was found out about its erasure.

    Attributes:
        rows: one for each picture.
        pictures: [height, width, 3] in 0 … 1.
        seconds, size: see `Erased`.
    """

    rows: Sequence[Mapping[str, Any]]
    pictures: Iterable[Tensor]
    seconds: float
    size: int


class Worker:
    """Makes chunks of one subject, and each erasure once as long as its tasks follow one another."""

    def __init__(self, subject: Subject, preserve: bool) -> None:
        self._subject, self._preserve = subject, subject.preserve if preserve else ""
        self._made: tuple[Erasure, Erased] | None = None

    def __call__(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Done]]:
        """Every task with what came of it, in their order; nothing is begun before the one before it was taken.

        Raises:
            RECEError: an erasure cannot be made.
        """
        for task in tasks:
            yield task, self.do(task)

    def do(self, task: Task) -> Done:
        """Sample the pictures of a chunk and look at them.

        Raises:
            RECEError: the erasure cannot be made.
        """
        erased, subject = self._erased(task.erasure), self._subject
        pictures = subject.pictures(erased, task.chunk.prompts, task.places)
        return Done(subject.rows(task.chunk.prompts, task.places, pictures), pictures, erased.seconds, erased.size)

    def _erased(self, erasure: Erasure) -> Erased:
        if self._made is None or self._made[0] != erasure:
            # The one before goes first, so that there are never two.
            self._made = None
            subject = self._subject
            self._made = (erasure, make(erasure, subject.model, subject.clip, subject.concepts, self._preserve))
        return self._made[1]


def missing_tasks(results: Results, subject: Subject, erasures: Sequence[Erasure], size: int) -> list[Task]:
    """The chunks of `size` prompts that the results do not have yet, one erasure after the other."""
    return [
        Task(erasure, chunk, places)
        for erasure in erasures
        for name, prompts in subject.sets.items()
        for number, places in enumerate(chunked(len(prompts.captions), size))
        if not results.has(chunk := ChunkName(erasure.name, name, number))
    ]


def keep(results: Results, finished: Iterator[tuple[Task, Done]], tell: Callable[[Task, int], None]) -> None:
    """Put chunks into the results as they are finished; `tell` hears of each, with how many there are."""
    noted = set[str]()
    for count, (task, done) in enumerate(finished, start=1):
        if task.erasure.name not in noted:
            results.note(f"erasure {task.erasure.name}", {"seconds": done.seconds, "size": done.size})
            noted.add(task.erasure.name)
        results.add(task.chunk, done.rows, done.pictures)
        tell(task, count)
