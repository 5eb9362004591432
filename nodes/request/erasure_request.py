"""What a person asked the main node for, in one frozen value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...rece_ops import InputError, ProjectionSettings, Provenance, RECESettings, __version__
from ...rece_ops.provenance import cleaned
from ...rece_ops.texts import printable, quoted
from .choices import check_choice
from .concept_examples import Example, parse_examples
from .concept_lines import ConceptLine, parse_concepts, parse_preserved, preserved_notes
from .erase_inputs import plan_of
from .methods import METHODS, Needs, Plan
from .methods.rece import UCE
from .presets import NAMES, default_target
from .target_mixtures import mixture_of
from .templates import TEMPLATES, expand_templates
from .typed_text import format_notes
from .vocabulary import CUSTOM

EMPTY = ""
MIXING = UCE.name
"""The method that maps a concept to several targets. Epochs of RECE erase what brings a concept back, which mixtures keep."""


@dataclass(frozen=True)
class ErasureRequest:
    """What a person asked for.

    Attributes:
        concepts: what to erase.
        preserved: prompts whose outputs should stay; the empty prompt is always among them.
        plan: the method with its settings.
        templates: name of the templates inside which each concept is erased too.
        embeddings: more to erase, as token embeddings [1, n, d] with the values of their CONDITIONING, towards the target
            of the first concept.
        pooled: whether to erase from the pooled embedding too, where the model reads one.
        notes: what was read otherwise than it was typed, as sentences.
        examples: prompts with the first concept, alone or with the same prompt without it.

    Raises:
        InputError: a concept has several targets, and the method or a connected embedding needs one.
    """

    concepts: Sequence[ConceptLine]
    preserved: Sequence[str]
    plan: Plan
    templates: str = "none"
    embeddings: Sequence[tuple[Tensor, dict[str, Any]]] = ()
    pooled: bool = True
    notes: Sequence[str] = ()
    examples: Sequence[Example] = ()

    def __post_init__(self) -> None:
        mixed = first_mixed(self.concepts, self.plan.method.name)
        if self.embeddings and mixed is not None and mixed is self.concepts[0]:
            raise InputError(
                f"The concept {quoted(mixed.concept)} has several targets, but a connected embedding needs one: put a concept "
                "with one target first."
            )

    @property
    def needs(self) -> Needs:
        """The prompts that the method needs encoded."""
        return self.plan.needs(TEMPLATES[self.templates])

    def prompts(self) -> list[tuple[ConceptLine, str]]:
        """Every prompt to erase, with the line it stands for."""
        return [(line, prompt) for line in self.concepts for prompt in expand_templates(line.concept, self.templates)]

    def provenance(
        self,
        settings: Mapping[str, RECESettings | ProjectionSettings],
        architecture: str,
        dimensions: Mapping[str, int],
        fronts: Sequence[str],
    ) -> Provenance:
        """What an eraser file says about how it was made: no paths, no names of people or machines.

        Args:
            settings: that each text stream was erased with; where a limit was kept, they can differ.
            architecture: what the eraser was made on.
            dimensions: of the text streams, by name.
            fronts: the text streams that reach the text readers through a norm or a network.
        """
        plain = {name: one.as_dict() for name, one in settings.items()}
        same = len(set(settings.values())) == 1
        return Provenance(
            method=self.plan.method.name,
            concepts=tuple(cleaned(line.concept) for line in self.concepts),
            targets=tuple(cleaned(line.target) for line in self.concepts),
            weights=tuple(line.weight for line in self.concepts),
            embeddings=len(self.embeddings),
            examples=len(self.examples) or None,
            preserve=tuple(map(cleaned, self.preserved)),
            templates=self.templates,
            preserve_exactly=self.plan.exactly,
            settings=next(iter(plain.values())) if same else plain,
            architecture=architecture,
            dimensions=dimensions,
            fronts=tuple(fronts),
            pack_version=__version__,
        )


def first_mixed(concepts: Sequence[ConceptLine], method: str) -> ConceptLine | None:
    """The first concept that has several targets.

    Raises:
        InputError: there is one, and the method of that name needs a single target.
    """
    mixed = next((line for line in concepts if mixture_of(line.target)), None)
    if mixed is not None and method != MIXING:
        raise InputError(
            f"The concept {quoted(mixed.concept)} has several targets, which the method '{printable(method)}' does not "
            f"take: set 'method' to '{MIXING}', or give one target. A '|' that belongs to the text goes into double quotes."
        )
    return mixed


def request_of(
    concepts: str,
    inputs: Mapping[str, Any],
    embeddings: Sequence[tuple[Tensor, dict[str, Any]]] = (),
) -> ErasureRequest:
    """The request that the main node's inputs make.

    Args:
        concepts: one concept a line.
        inputs: 'preset', 'preserve', 'templates', 'pooled', 'target', 'examples' and those of `erase_inputs`; all but the
            preset have defaults.
        embeddings: see `ErasureRequest`.

    Raises:
        InputError: a line or a value cannot be understood, or two of them contradict each other.
    """
    check_choice("preset", inputs["preset"], NAMES)
    check_choice("templates", inputs.get("templates", "none"), TEMPLATES)
    lines = parse_concepts(concepts, default_target(inputs["preset"], inputs.get("target", "")))
    plan = plan_of(inputs)
    texts = {"concepts": concepts, **{name: inputs.get(name, "") for name in ("preserve", "examples")}}
    examples = parse_examples(texts["examples"])
    _check_examples(examples, plan)
    return ErasureRequest(
        lines,
        parse_preserved(texts["preserve"], lines),
        plan,
        inputs.get("templates", "none"),
        embeddings,
        inputs.get("pooled", True),
        [
            *(note for name, text in texts.items() for note in format_notes(name, text)),
            *preserved_notes(texts["preserve"], lines),
        ],
        examples,
    )


def _check_examples(examples: Sequence[Example], plan: Plan) -> None:
    """Raise InputError where there are examples and the method compares nothing."""
    if examples and not plan.needs(()).contexts:
        able = [name for name in METHODS if plan_of({"preset": CUSTOM, "method": name}).needs(()).contexts]
        raise InputError(
            f"'examples' has {len(examples)} prompts, but the method '{plan.method.name}' does not use them: disconnect them, or "
            f"choose the method {' or '.join(map(repr, able))}."
        )
