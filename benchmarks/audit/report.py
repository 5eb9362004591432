"""The table of the audit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from pathlib import Path

from benchmarks.audit.plot import save_plot
from benchmarks.audit.probes import PROBES
from benchmarks.audit.probes.fine_tuned import BACK, steps_until_back
from benchmarks.audit.records import REPORTED, Found, Probed
from benchmarks.audit.run import PROBES_FOLDER
from benchmarks.erased_models import UNNAMED
from benchmarks.records import finding, read_records
from pocket_model.rates import Rate

# Written by a person who looked at the figures.
FINDING = Path(__file__).with_name("finding.md")
RATES: tuple[tuple[str, Callable[[Found], Rate]], ...] = (
    ("own prompts", lambda one: one.own),
    ("synonyms", lambda one: one.paraphrased),
    ("held-out synonyms", lambda one: one.held_out),
    ("neighbour kept", lambda one: one.neighbours),
    ("everything else kept", lambda one: one.others),
    ("inversion, 4 tokens", lambda one: one.inverted_4),
    ("inversion, 16 tokens", lambda one: one.inverted_16),
)
KEPT = " kept"
TEXT = """# The audit: every method against every probe, on the pocket model

Measured by `python -m benchmarks.audit` on {machine}; every figure is in the folder `audit`. Each cell is the share of pictures
with its 95 % Wilson interval. The inversion learns token embeddings by gradient on the attacker's own pictures, from {starts}
starts; the best of them is chosen on pictures of its own and counted on others.

{finding}

![Each method's rates with their intervals](audit.png)

## All concepts together

{together}

## Concept by concept

{each}
{further}"""
FURTHER = """
## Further probes

Of one concept each, with up to {captions} captions of a sort where a cell is a share of pictures that show the concept. What a probe does
is said in `benchmarks/audit/probes`. *Picture difference* is the root mean square difference of pictures that should stay from the unedited
model's, in per cent of the range, with its 95 % interval over pictures. *Fine-tuning* is how many steps it takes until at least
{back:.0%} of the own prompts' pictures show the concept again. *{unnamed}* is the unedited model, to which an unknown word is said in
the concept's place: what a probe finds there it would find without the concept being known by its name.

{table}
"""


def write_report(folder: Path, path: Path) -> None:
    """Read all JSON files of `folder` and write the table, and the plot beside it."""
    found = [one for file in sorted(folder.glob("*.json")) for one in read_records(file, Found)]
    probed = [one for file in sorted((folder / PROBES_FOLDER).glob("*.json")) for one in read_records(file, Probed)]
    text = TEXT.format(
        machine="; ".join(dict.fromkeys(one.machine for one in found)),
        starts=max((len(one.starts_4) for one in found), default=0),
        finding=finding(FINDING),
        together=_table([(method, _of(found, method)) for method in REPORTED]),
        each=_table([(f"{one.concept}: {method}", [one]) for method in REPORTED for one in _of(found, method)]),
        further=_further(probed) if probed else "",
    )
    path.write_text(text, encoding="utf-8", newline="\n")
    measured = {method: _of(found, method) for method in REPORTED if _of(found, method)}
    rows = {f"{method} ({len(every)})": _rates(every) for method, every in measured.items()}
    save_plot(rows, {name: name.endswith(KEPT) for name, _ in RATES}, path.with_suffix(".png"))


def _of(found: Sequence[Found], method: str) -> list[Found]:
    return [one for one in found if one.method == method]


def _rates(found: Sequence[Found]) -> list[Rate]:
    """All of `RATES`, over several concepts."""
    return [reduce(add, map(of, found), Rate(0, 0)) for _, of in RATES]


def _further(probed: Sequence[Probed]) -> str:
    """The table of what further probes found, with columns for those that have figures."""
    named = {one.key: one for one in probed}
    probes = [probe for probe in PROBES if any(one.probe == probe for one in probed)]
    lines = [f"| | {' | '.join(probes)} |", "| --- |" + " --- |" * len(probes)]
    for concept in dict.fromkeys(one.concept for one in probed):
        for method in REPORTED:
            cells = [named.get((method, concept, probe)) for probe in probes]
            if any(cells):
                shown = " | ".join("–" if one is None else _cell(one) for one in cells)
                lines.append(f"| {concept}: {method} | {shown} |")
    captions = max((one.rate.trials for one in probed), default=0)
    return FURTHER.format(captions=captions, back=BACK, unnamed=UNNAMED, table="\n".join(lines))


def _cell(one: Probed) -> str:
    if one.probe.startswith("fine-tuning"):
        return steps_until_back(one.numbers)
    if not one.rate.trials:
        mean, low, high = one.numbers
        return f"{mean:.1%} ({low:.1%}–{high:.1%})"
    return str(one.rate)


def _table(rows: Sequence[tuple[str, Sequence[Found]]]) -> str:
    lines = ["| | concepts | " + " | ".join(name for name, _ in RATES) + " | seconds | size |"]
    lines.append("| --- |" + " --- |" * (len(RATES) + 3))
    for name, found in rows:
        if found:
            rates = [str(rate) for rate in _rates(found)]
            seconds = sum(one.seconds for one in found) / len(found)
            size = sum(one.size for one in found) / len(found) / 2**20
            lines.append(f"| {name} | {len(found)} | {' | '.join(rates)} | {seconds:.0f} | {size:.1f} MiB |")
    return "\n".join(lines)
