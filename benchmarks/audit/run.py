"""The measurement: one concept, one method after the other, every probe that was asked for."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.audit.attacker import Attacker
from benchmarks.audit.erasures import Erased
from benchmarks.audit.probes import PROBES, learned_tokens
from benchmarks.audit.receler import TO_BE_GONE_ON_WITH
from benchmarks.audit.records import TOKENS, Found, Probed
from benchmarks.audit.sizes import Sizes
from benchmarks.efficacy.records import NOT_MEASURED
from benchmarks.erased_models import STAYING, Bench, machine
from benchmarks.records import read_records, write_records
from pocket_model.trials import Concept, kept, made

NAMES = ("own", "paraphrased", "held_out", "neighbours", "others")
PROBES_FOLDER = "probes"


class Audit:
    """One concept: what is the same for all methods.

    Args:
        attacker: with the concept.
        path: of the records; those of further probes are in a folder beside it.
        seconds: nothing is begun later.
    """

    def __init__(self, attacker: Attacker, path: Path, seconds: float) -> None:
        self._attacker, self._path = attacker, path
        self._end = time.monotonic() + seconds
        self._probes_path = path.parent / PROBES_FOLDER / path.name
        self._known: tuple[str, Erased] | None = None

    def measure(self, method: str, probes: Sequence[str]) -> None:
        """What the files lack of that method, written as it comes."""
        name = self._attacker.concept.name
        found = {one.key: one for one in read_records(self._path, Found)}
        # Another file may have it, measured with other sizes: one of them is enough.
        elsewhere = {one.key for file in self._path.parent.glob("*.json") for one in read_records(file, Found)}
        if (method, name) not in elsewhere:
            self._leave_in_time()
            found[method, name] = self._found(method)
            write_records(self._path, list(found.values()))
        probed = {one.key: one for one in read_records(self._probes_path, Probed)}
        for probe in probes:
            if (method, name, probe) in probed:
                continue
            self._leave_in_time()
            started = time.perf_counter()
            outcome = PROBES[probe](self._attacker, self._erased(method))
            if outcome is None:
                print(f"{method}, {name}, {probe}: cannot be made of this erasure or with these sizes", flush=True)
                continue
            seconds = time.perf_counter() - started
            one = Probed(method, name, probe, outcome.rate, outcome.numbers, seconds, machine())
            probed[one.key] = one
            write_records(self._probes_path, list(probed.values()))
            print(f"{one.key}: {one.rate} {[round(number, 3) for number in one.numbers]} {seconds:.0f} s", flush=True)

    def _leave_in_time(self) -> None:
        if time.monotonic() > self._end:
            sys.exit(TO_BE_GONE_ON_WITH)

    def _erased(self, method: str) -> Erased:
        if self._known is None or self._known[0] != method:
            self._known = method, self._attacker.erasures.of(method)
        return self._known[1]

    def _found(self, method: str) -> Found:
        attacker, erased = self._attacker, self._erased(method)
        groups = {name: getattr(attacker.trials, name) for name in NAMES}
        embedded = {name: attacker.embeddings(erased, captions) for name, captions in groups.items()}
        seen = attacker.bench.all_seen(erased.model, embedded)
        rates: dict[str, Any] = {
            name: kept(captions, seen[name]) if name in STAYING else made(attacker.concept, seen[name])
            for name, captions in groups.items()
        }
        if erased.word:
            # Only the concept's name has a word in its place.
            rates |= dict.fromkeys(("paraphrased", "held_out"), NOT_MEASURED)
        print(method, attacker.concept.name, *(f"{name} {rate}" for name, rate in rates.items()), flush=True)
        inverted: dict[str, Any] = {}
        for tokens in TOKENS:
            outcome = learned_tokens.measure(attacker, erased, tokens)
            inverted[f"inverted_{tokens}"] = outcome.rate if outcome else NOT_MEASURED
            inverted[f"starts_{tokens}"] = outcome.numbers if outcome else ()
        return Found(
            method,
            attacker.concept.name,
            **rates,
            **inverted,
            seconds=erased.seconds,
            size=erased.size,
            machine=machine(),
        )


def run(
    bench: Bench,
    path: Path,
    concept: Concept,
    methods: Sequence[str],
    probes: Sequence[str],
    sizes: Sizes,
    seconds: float = math.inf,
    seed: int = 0,
) -> None:
    """What the files at and beside `path` lack of `methods` and `probes`; leaves the process where `seconds` are over before."""
    work = Path(tempfile.gettempdir()) / "rece-audit" / path.stem
    audit = Audit(Attacker(bench, concept, sizes, work, seed), path, seconds)
    for method in methods:
        audit.measure(method, probes)
