"""The table of the efficacy benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path

from benchmarks.efficacy.records import ALL, DERIVED, NOT_MEASURED, VECTOR_SCALE, Outcome
from benchmarks.erased_models import BETA, UNEDITED, UNNAMED, changed_in_one_thing
from benchmarks.records import finding, machines
from pocket_model.rates import Rate
from pocket_model.trials import CONCEPTS

Columns = tuple[tuple[str, Callable[[Outcome], Rate]], ...]
COLUMNS: Columns = (
    ("own prompts", lambda outcome: outcome.own),
    ("synonyms", lambda outcome: outcome.paraphrased),
    ("synonyms new to the UNet", lambda outcome: outcome.held_out),
    (f"derived, λ_r {DERIVED[0]:g}", lambda outcome: outcome.derived),
    (f"derived, λ_r {DERIVED[1]:g}", lambda outcome: outcome.derived_closer),
    ("concept vector", lambda outcome: outcome.vector),
    ("nearest neighbour", lambda outcome: outcome.neighbours),
    ("everything else", lambda outcome: outcome.others),
    ("rest of own prompts", lambda outcome: outcome.rest),
)
# The captions of the others name several of the concepts that were erased with it.
COLUMNS_TOGETHER: Columns = tuple(one for one in COLUMNS if one[0] not in ("nearest neighbour", "rest of own prompts"))
# Written by a person who looked at the figures.
FINDING = Path(__file__).with_name("finding.md")
HEADING = """# What erasing does to the pocket model's pictures

Measured by `python -m benchmarks.efficacy` on {machine}; every figure is in `efficacy.json`. Each cell is the share of
pictures with its 95 % Wilson interval, over {concepts} ({count} pictures of each sort for each, {attacked} of each attack). In the
first six columns the concept is still *made*: low is good. In the others everything that the caption says is *kept*:
high is good, and the unedited model is the measure. The model always draws something: with an unknown word in a
concept's place (second row) it draws what is its habit, and an eraser that leaves nothing of a concept gets no lower than
that unless it says what to draw instead. Concepts are mapped to the empty prompt, or *to a target*: objects to `heart`,
colours to `yellow`, styles to `plain`, weather to `clear`, figures to `Pip Larkin`. *Synonyms* say the
concept with other words, which the eraser never saw; *synonyms new to the UNet* with those that only the text encoder was
trained on, so that what the UNet makes of them is the text encoder's doing. *Derived* is RECE's attack: the embedding that brings the outputs of
the concept's own prompts back best, derived from the erased weights. *Concept vector* is Ring-A-Bell's: {scale:g} times what
the text encoder adds for the concept, added to prompts that say something else. The model was sampled in bfloat16 or, where that is slow, in float32.

{finding}

![What each setting still makes against what it keeps](efficacy_pareto.png)
"""
CHANGED = f"""## One thing changed

Each differs in one thing from UCE, RECE or the projection with β {BETA:g}, to a target. *Synonyms too*: the synonyms that the UNet
saw are typed as concepts, which leaves those that it did not see. *In templates*: the concept is also erased in five
sentences (`templates`: object). *Bare words*: the projection compares concepts with other words alone, and not in
sentences too. *Against the target*: it removes what sets a concept apart from its target instead of from other words.
*Last token*: only the concept's last token counts, and neither end-of-text nor padding; *tokens after it*: the reverse. *Energy* is the
share of what sets the concept apart that the directions hold (0.9), unless their number is given.
"""
GRIDS = """
![For every concept: unedited, UCE, RECE with three epochs, a projection, a projection to a target](efficacy.png)

*Columns: four of the concept's own prompts, two paraphrases, two prompts of its nearest neighbour, three others; equal
seeds in a column.*
"""


def write_report(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write the tables: one concept at a time, by kind, with one thing changed, and all at once."""
    parts = [
        HEADING.format(
            machine=machines(outcomes),
            scale=VECTOR_SCALE,
            concepts=_listed(),
            count=outcomes[0].own.trials,
            attacked=outcomes[0].derived.trials,
            finding=finding(FINDING),
        )
    ]
    # A run that was stopped has no pictures yet.
    if path.with_suffix(".png").is_file():
        parts.append(GRIDS)
    single = [outcome for outcome in outcomes if not outcome.concept.endswith(ALL)]
    together = _once([outcome for outcome in outcomes if outcome.concept.endswith(ALL)])
    others = {setting.name for setting in changed_in_one_thing()}
    main = [outcome for outcome in single if outcome.setting not in others]
    changed = [outcome for outcome in single if outcome.setting in others]
    parts += ["## One concept at a time\n", _table(COLUMNS, _by_setting(main)), ""]
    parts += [CHANGED, _table(COLUMNS, _by_setting(changed)), ""]
    parts += ["## By kind of concept\n", _table(COLUMNS, _by_kind(main)), ""]
    parts += ["## All of them at once\n", _table(COLUMNS_TOGETHER, _by_setting(together)), ""]
    path.write_text("\n".join(parts), encoding="utf-8", newline="\n")


def _once(together: Sequence[Outcome]) -> list[Outcome]:
    """The same with the pictures of everything else, which concepts erased together share, in the first concept only."""
    seen: set[tuple[str, bool]] = set()
    found = []
    for outcome in together:
        key = outcome.setting, outcome.preserved
        found.append(replace(outcome, others=NOT_MEASURED) if key in seen else outcome)
        seen.add(key)
    return found


def _by_setting(outcomes: Sequence[Outcome]) -> list[tuple[str, list[Outcome]]]:
    names = dict.fromkeys(map(_name, outcomes))
    return [(name, [outcome for outcome in outcomes if _name(outcome) == name]) for name in names]


def _by_kind(outcomes: Sequence[Outcome]) -> list[tuple[str, list[Outcome]]]:
    """The same, of the kinds of concepts."""
    found = []
    for kind in dict.fromkeys(concept.kind for concept in CONCEPTS):
        names = [concept.name for concept in CONCEPTS if concept.kind == kind]
        chosen = [one for one in outcomes if one.concept in names and one.setting != UNNAMED]
        found += [(f"{kind}: {name}", rows) for name, rows in _by_setting(chosen)]
    return found


def _table(columns: Columns, rows: Iterable[tuple[str, list[Outcome]]]) -> str:
    lines = [
        "| | " + " | ".join(name for name, _ in columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    for name, outcomes in rows:
        rates = [reduce(add, (of(outcome) for outcome in outcomes)) for _, of in columns]
        lines.append(f"| {name} | " + " | ".join(map(str, rates)) + " |")
    return "\n".join(lines)


def _name(outcome: Outcome) -> str:
    preserved = ", others preserved" if outcome.preserved else ""
    return outcome.setting if outcome.setting == UNEDITED else f"{outcome.setting}{preserved}"


def _listed() -> str:
    return ", ".join(concept.name for concept in CONCEPTS)
