"""The tables and the curve of the inversion benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from pathlib import Path

from benchmarks.inversion.records import (
    ATTACKED,
    BATCH,
    FED_BACK,
    PICTURES,
    ROUNDS,
    STARTS,
    STEPS,
    TOKENS,
    TOKENS_OF_ROUNDS,
    Attack,
)
from benchmarks.records import finding, machines
from pocket_model.rates import Rate

CURVES: tuple[tuple[str, Callable[[Attack], Rate]], ...] = (
    ("made by inversion", lambda attack: attack.inverted),
    ("made from own prompts", lambda attack: attack.own),
    ("nearest neighbour kept", lambda attack: attack.neighbours),
    ("everything else kept", lambda attack: attack.others),
)
# Written by a person who looked at the figures.
FINDING = Path(__file__).with_name("finding.md")
TEXT = """# White-box inversion of erased concepts on the pocket model

Measured by `python -m benchmarks.inversion` on {machine}; every figure is in `inversion.json`. The attacker learns token
embeddings on {pictures} pictures that the unedited model made of the concept ({steps} steps of Adam, {batch} pictures a
step, from the empty prompt), {starts} times with other seeds, and keeps what makes the concept most often. Each cell is the share of pictures with its 95 % Wilson interval, over {concepts} together.

{finding}

## Learned tokens

Share of pictures that show the concept, from what the inversion found.

{tokens}
"""
ROUNDS_TEXT = """
## Erasing what was found, round by round

{per_round} learned tokens, a fresh attack after every round. Round 0 is the plain erasure.

{rounds}

![What inversion makes, and what is kept, by round](inversion.png)
"""


def write_report(attacks: Sequence[Attack], path: Path) -> None:
    """Write both tables."""
    text = (TEXT + ROUNDS_TEXT * has_rounds(attacks)).format(
        machine=machines(attacks),
        starts=STARTS,
        pictures=PICTURES,
        steps=STEPS,
        batch=BATCH,
        concepts=", ".join(dict.fromkeys(attack.concept for attack in attacks)),
        finding=finding(FINDING),
        per_round=TOKENS_OF_ROUNDS,
        tokens=_token_table(attacks),
        rounds=_round_table(attacks),
    )
    path.write_text(text, encoding="utf-8", newline="\n")


def has_rounds(attacks: Sequence[Attack]) -> bool:
    """Whether all rounds of all methods were measured."""
    found = {(attack.setting, attack.rounds) for attack in attacks}
    return found >= {(setting, number) for setting in FED_BACK for number in range(ROUNDS + 1)}


def save_curve(attacks: Sequence[Attack], path: Path) -> None:
    """One panel a method: every rate by the number of rounds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(FED_BACK), 4), dpi=100, layout="constrained")
    for axes, setting in zip(figure.subplots(1, len(FED_BACK), sharey=True), FED_BACK, strict=True):
        for name, of in CURVES:
            rates = [_sum(_chosen(attacks, setting, number, TOKENS_OF_ROUNDS), of) for number in range(ROUNDS + 1)]
            axes.plot([rate.share for rate in rates], "o-", label=name)
            low, high = zip(*(rate.interval() for rate in rates), strict=True)
            axes.fill_between(range(ROUNDS + 1), low, high, alpha=0.12)
        axes.set_title(setting)
        axes.set_xlabel("rounds of erasing what inversion found")
        axes.set_xticks(range(ROUNDS + 1))
        axes.set_ylim(-0.03, 1.03)
    figure.axes[0].set_ylabel("share of pictures")
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path)


def _token_table(attacks: Sequence[Attack]) -> str:
    names = [f"{tokens} token{'s' if tokens > 1 else ''}" for tokens in TOKENS]
    lines = ["| | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(TOKENS)]
    for setting in ATTACKED:
        rates = [_sum(_chosen(attacks, setting, 0, tokens), lambda attack: attack.inverted) for tokens in TOKENS]
        lines.append(f"| {setting} | " + " | ".join(map(str, rates)) + " |")
    return "\n".join(lines)


def _round_table(attacks: Sequence[Attack]) -> str:
    lines = ["| | " + " | ".join(name for name, _ in CURVES) + " |", "| --- |" + " --- |" * len(CURVES)]
    for setting in FED_BACK:
        for number in range(ROUNDS + 1):
            chosen = _chosen(attacks, setting, number, TOKENS_OF_ROUNDS)
            lines.append(
                f"| {setting}, round {number} | " + " | ".join(str(_sum(chosen, of)) for _, of in CURVES) + " |"
            )
    return "\n".join(lines)


def _chosen(attacks: Sequence[Attack], setting: str, rounds: int, tokens: int) -> list[Attack]:
    return [attack for attack in attacks if (attack.setting, attack.rounds, attack.tokens) == (setting, rounds, tokens)]


def _sum(attacks: Sequence[Attack], of: Callable[[Attack], Rate]) -> Rate:
    return reduce(add, map(of, attacks), Rate(0, 0))
