"""Does erasing erase, does it hold, and what does it cost? All methods on the pocket model, judged by its pictures.

    python -m benchmarks.efficacy [--out benchmarks/results] [--only SETTING ...] [--concepts NAME ...] [--fresh]

For every concept and setting, pictures are sampled from the erased MODEL and classified: is the concept still made
from its own prompts, from synonyms that the eraser never saw, from derived embeddings, and with the concept's vector
added to other prompts; and is everything else, the nearest neighbour in particular, still made? What was measured is
kept in a JSON file, so that a run can be stopped and gone on with. Several runs at once, of some concepts each into a
folder of its own, are put together by `--gather FOLDER ...`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.efficacy.plot import save_grids, save_plot
from benchmarks.efficacy.records import CAPTIONS, Outcome
from benchmarks.efficacy.report import write_report
from benchmarks.efficacy.run import Efficacy, examples, measured, run
from benchmarks.erased_models import Bench, bench_sampler, settings
from benchmarks.records import RESULTS, gather_records
from pocket_model.trials import CONCEPTS, concept_named

TOGETHER = "together"


def main() -> int:
    """Measure what is missing, then write the table and the grids."""
    parser = argparse.ArgumentParser(description="Measure on the pocket model what erasing does.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    names = list(dict.fromkeys(setting.name for setting in settings()))
    parser.add_argument(
        "--only", nargs="+", choices=names, default=[], metavar="SETTING", help=f"in this order: {', '.join(names)}"
    )
    every = [*(concept.name for concept in CONCEPTS), TOGETHER]
    parser.add_argument(
        "--concepts",
        nargs="+",
        choices=every,
        default=every,
        metavar="NAME",
        help=f"of {', '.join(every)} (all at once)",
    )
    parser.add_argument("--steps", type=int, default=10, help="of the sampler")
    parser.add_argument("--captions", type=int, default=CAPTIONS, help="pictures of each sort")
    parser.add_argument("--gather", nargs="+", type=Path, default=[], metavar="FOLDER", help="that other runs wrote to")
    parser.add_argument("--report", action="store_true", help="measure nothing, write about what was measured")
    parser.add_argument("--grids", action="store_true", help="also make the grids of pictures")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured")
    arguments = parser.parse_args()
    path = arguments.out / "efficacy.json"
    if arguments.fresh:
        path.unlink(missing_ok=True)
    gather_records(path, [folder / path.name for folder in arguments.gather], Outcome)
    groups = [CONCEPTS if name == TOGETHER else (concept_named(name),) for name in arguments.concepts]
    if not arguments.report:
        efficacy = Efficacy(Bench(bench_sampler(arguments.steps)), arguments.captions)
        run(efficacy, path, arguments.only, groups)
        if arguments.grids:
            save_grids(examples(efficacy), path.with_suffix(".png"))
    outcomes = measured(path)
    save_plot(outcomes, path.with_name("efficacy_pareto.png"))
    write_report(outcomes, path.with_suffix(".md"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
