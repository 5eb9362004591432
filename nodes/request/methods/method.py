"""What a method is: everything that the rest of the pack needs to know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from ....rece_ops import ConceptPair, Differences, Erasure, KeptLimits, Projection, ProjectionSettings, RECESettings
from ....rece_ops.linear.moments import TokenSum
from ....rece_ops.progress import Progress

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Needs:
    """The prompts that a method needs encoded in addition to concepts, targets and preserved prompts.

    Attributes:
        contexts: each with '{}' in the concept's place; concepts are compared with other words in them.
        calibration: prompts that the method is fitted to.
        tuning: prompts by which the number of epochs or the scale is chosen.
    """

    contexts: tuple[str, ...] = ()
    calibration: tuple[str, ...] = ()
    tuning: tuple[str, ...] = ()


@dataclass(frozen=True)
class EncodedRequest:
    """The token embeddings [n, d] of everything that an erasure of one text stream is given or measured with.

    Attributes:
        pairs: what to erase, and towards what.
        preserved: of the preserved prompts and the empty one, by prompt.
        given: those of the pairs that come from connected embeddings.
        differences: what sets concepts apart from other words, in the contexts that the method needs; None without any.
        without: what the pairs of prompts that were given as examples have without the concept; None without any.
        calibration: the prompts that the method is fitted to.
        tuning: the prompts by which epochs or scale are chosen, by prompt.
        held_out: the held-out prompts, by prompt: no erasure is ever fitted to them or chosen by them.
    """

    pairs: Sequence[ConceptPair]
    preserved: Mapping[str, Tensor]
    given: Sequence[ConceptPair] = ()
    differences: Differences | None = None
    without: TokenSum | None = None
    calibration: Sequence[Tensor] = ()
    tuning: Mapping[str, Tensor] = field(default_factory=dict)
    held_out: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a method made of one text stream: the erasure, and what was done to keep its limits (None: nothing)."""

    erasure: Erasure | Projection
    kept: KeptLimits | None = None


class Plan(Protocol):
    """A method with its settings, ready to run."""

    @property
    def method(self) -> Method:
        """The method that reports and eraser files name."""
        ...

    @property
    def settings(self) -> RECESettings | ProjectionSettings:
        """The coefficients."""
        ...

    @property
    def exactly(self) -> bool:
        """Whether preserved prompts must not move at all."""
        ...

    def needs(self, templates: Sequence[str]) -> Needs:
        """The prompts to encode, where concepts are also erased inside these templates."""
        ...

    def run(self, weights: Mapping[str, Tensor], encoded: EncodedRequest, progress: Progress | None) -> Outcome:
        """Erase from one text stream.

        Args:
            weights: key and value weights [out, d] by name, read one at a time.
            encoded: see `EncodedRequest`.
            progress: called after every step; may raise to cancel.

        Raises:
            InputError, NumericalError: see the method's own function in `rece_ops.methods`.
        """
        ...


class Method(Protocol):
    """One way to erase. The node's choice, its checks, tooltips, visible inputs, reports and help come from this."""

    @property
    def name(self) -> str:
        """As the node's choice, reports and eraser files call it."""
        ...

    @property
    def summary(self) -> str:
        """What it does and when to take it, in one sentence."""
        ...

    @property
    def price(self) -> str:
        """When to take it and what it was measured to cost, in one sentence."""
        ...

    @property
    def guarantee(self) -> str:
        """What is certain after it, and what is not, in one sentence."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs in `erase_inputs` that count for it."""
        ...

    @property
    def advice(self) -> Advice:
        """Which settings a warning names."""
        ...

    def plan(self, inputs: Inputs) -> Plan:
        """The plan of what a person chose; `inputs` has a checked value for every input.

        Raises:
            InputError: two inputs contradict each other.
        """
        ...

    def describe(self, erasures: Sequence[Erasure | Projection]) -> str:
        """How a report says it, as in 'RECE with 3 epochs'; one erasure for each text stream."""
        ...


@dataclass(frozen=True)
class Remedies:
    """What to do on the main node, by the name of a control that is visible whatever else was chosen; each a sentence.

    Attributes:
        left: where a concept is still there.
        drifted: where other prompts changed too much.
        back: where the derived embedding brings a concept back.
    """

    left: str
    drifted: str
    back: str


@dataclass(frozen=True)
class Advice:
    """What to change, each as the beginning of a sentence.

    Attributes:
        milder: to spare more.
        stronger: to leave less of the concept.
        steadier: where a solve is ill-conditioned.
        remedies: what to do first.
    """

    milder: str
    stronger: str
    steadier: str
    remedies: Remedies


def counted(counts: Sequence[int], what: str) -> str:
    """As in '3 epochs'; as in '1 to 3 epochs' where text streams differ."""
    least, most = min(counts), max(counts)
    return f"{most if least == most else f'{least} to {most}'} {what}{'s' if most > 1 else ''}"
