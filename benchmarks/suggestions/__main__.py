"""What Suggest Concepts finds in the pocket model's world, and what erasing by its suggestions alone does to pictures.

    python -m benchmarks.suggestions [--concepts NAME ...] [--erased NAME ...] [--sampled NAME ...] [--pictures N]

The limits of the scan were chosen on the words of the world that `benchmarks.efficacy` does not erase (*tuning*); the others are
the *test*. Pictures are made of the concepts named by --sampled only: they take a second or two each.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.erased_models import Bench, machine
from benchmarks.records import RESULTS, read_records, write_records
from benchmarks.suggestions.report import write_report
from benchmarks.suggestions.run import Outcome, Suggesting
from pocket_model.sampling import Sampler
from pocket_model.trials import concept_named
from pocket_model.world import KINDS
from tools.host import host_folder


def main() -> int:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description="Measure on the pocket model what Suggest Concepts finds.")
    every = [word.name for words in KINDS.values() for word in words]
    parser.add_argument("--concepts", nargs="*", default=every)
    parser.add_argument("--sampled", nargs="*", default=[], help="concepts that pictures are made of")
    parser.add_argument("--erased", nargs="*", default=[], help="concepts that are erased, without pictures")
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--cache", type=Path, default=host_folder() / "words", help="where encoded words are kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    path = arguments.out / "suggestions.json"
    found = {outcome.concept: outcome for outcome in read_records(path, Outcome)}
    bench = Bench(Sampler(steps=10, batch=60))
    _keep_words_in(arguments.cache)
    suggesting = Suggesting(bench, arguments.pictures)
    for name in arguments.concepts:
        concept, started = concept_named(name), time.perf_counter()
        suggestions = suggesting.scan(concept)
        outcome = suggesting.words(concept, suggestions)
        if name in arguments.sampled or name in arguments.erased:
            eraser = suggesting.eraser(suggestions)
            before, after = suggesting.shares(concept, eraser)
            outcome = replace(outcome, share_before=before, share_after=after)
            if name in arguments.sampled:
                outcome = replace(outcome, **suggesting.pictures(concept, eraser))
        found[name] = outcome
        write_records(path, [found[one] for one in every if one in found])
        print(f"{time.perf_counter() - started:.0f} s", outcome, flush=True)
    write_report([found[one] for one in every if one in found], path.with_suffix(".md"), machine())
    return 0


def _keep_words_in(folder: Path) -> None:
    """The scan's cache goes there, and not into the user folder of the ComfyUI that is tested against."""
    import folder_paths

    folder.mkdir(parents=True, exist_ok=True)
    folder_paths.set_user_directory(str(folder))


if __name__ == "__main__":
    sys.exit(main())
