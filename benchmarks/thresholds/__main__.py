"""From which numbers on do pictures show it? The thresholds of `rece_ops.measures.thresholds` come from here.

    python -m benchmarks.thresholds [--out benchmarks/results] [--seconds N]

The erasures that `benchmarks.efficacy` made pictures of, by what the node offers, are made again, and the numbers that the panel says of them are put
beside what those pictures showed. No picture is made. Thresholds are chosen on half of the concepts and judged on the others.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from benchmarks.efficacy.records import ALL, Outcome
from benchmarks.erased_models import UNEDITED, UNNAMED, Bench, bench_sampler, machine, settings
from benchmarks.records import RESULTS, measure_missing, read_records
from benchmarks.thresholds.records import Numbers, cases
from benchmarks.thresholds.report import save_plot, write_report
from pocket_model.trials import concept_named


def main() -> int:
    """Measure what is missing, then write the table and the plot."""
    parser = argparse.ArgumentParser(description="Put the numbers of erasures beside what their pictures showed.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no erasure later")
    arguments = parser.parse_args()
    outcomes = read_records(RESULTS / "efficacy.json", Outcome)
    offered = {(setting.name, setting.preserved) for setting in settings() if not setting.looks}
    keys = [outcome.key for outcome in outcomes if _is_erasure(outcome) and outcome.key[:2] in offered]
    path = arguments.out / "thresholds.json"
    bench = _LateBench()
    numbers = measure_missing(path, Numbers, keys, bench.numbers, arguments.seconds)
    wanted = set(keys)
    found = cases([one for one in numbers if one.key in wanted], outcomes)
    save_plot(found, path.with_suffix(".png"))
    write_report(found, path.with_suffix(".md"))
    return 0


def _is_erasure(outcome: Outcome) -> bool:
    return outcome.setting not in (UNEDITED, UNNAMED) and not outcome.concept.endswith(ALL)


class _LateBench:
    """The bench, loaded when something is to be measured."""

    def __init__(self) -> None:
        self._bench: Bench | None = None
        self._settings = {(setting.name, setting.preserved): setting for setting in settings()}

    def numbers(self, key: tuple[str, bool, str]) -> Numbers:
        """Of the erasure of that setting, preserved words or not, and concept."""
        self._bench = self._bench or Bench(bench_sampler())
        name, preserved, concept = key
        measures = self._bench.erasure(self._settings[name, preserved], [concept_named(concept)]).measures
        one = next(one for one in measures.concepts if one.name == concept)
        drift = max({**measures.drift, **measures.held_out_drift}.values())
        return Numbers(*key, one.residual, one.regeneration[-1], drift, machine())


if __name__ == "__main__":
    sys.exit(main())
