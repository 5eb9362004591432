"""Does erasing erase, does it hold, and what does it cost? All methods on the pocket model, judged by its pictures.

    python -m benchmarks.efficacy [--out benchmarks/results] [--only SETTING ...] [--fresh]

For every concept and setting, pictures are sampled from the erased MODEL and classified: is the concept still made
from its own prompts, from paraphrases that the eraser never saw, from derived embeddings, and with the concept's vector
added to other prompts; and is everything else, the nearest neighbour in particular, still made? What was measured is
kept in a JSON file, so that a run can be stopped and gone on with.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.efficacy.plot import save_grids, save_plot
from benchmarks.efficacy.report import write_report
from benchmarks.efficacy.run import Efficacy, examples, run
from benchmarks.erased_models import Bench, machine, settings
from benchmarks.records import RESULTS
from pocket_model.sampling import Sampler


def main() -> int:
    """Measure what is missing, then write the table and the grids."""
    parser = argparse.ArgumentParser(description="Measure on the pocket model what erasing does.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    names = list(dict.fromkeys(setting.name for setting in settings()))
    parser.add_argument(
        "--only", nargs="+", choices=names, default=[], metavar="SETTING", help=f"in this order: {', '.join(names)}"
    )
    parser.add_argument("--steps", type=int, default=10, help="of the sampler")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured")
    arguments = parser.parse_args()
    path = arguments.out / "efficacy.json"
    if arguments.fresh:
        path.unlink(missing_ok=True)
    efficacy = Efficacy(Bench(Sampler(steps=arguments.steps, batch=64)))
    outcomes = run(efficacy, path, arguments.only)
    if not arguments.only:
        save_grids(examples(efficacy), path.with_suffix(".png"))
    save_plot(outcomes, path.with_name("efficacy_pareto.png"))
    write_report(outcomes, path.with_suffix(".md"), machine())
    return 0


if __name__ == "__main__":
    sys.exit(main())
