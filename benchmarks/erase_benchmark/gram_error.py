"""How far G in float32 blocks is from G in float64, and what that does to an erasure, for every size, spectrum and λ_r.

    python -m benchmarks.erase_benchmark.gram_error [--device cuda] [--sizes SD1 SD2 SDXL Flux] [--out benchmarks/results]

ΔW = W·T − W over all key and value weights, compared in the norm √Σ‖·‖²; the yardstick is the same erasure of the same weights given
in float64. An erasure whose error estimate is too large reads its weights a second time, in float64: `reads` says so.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rece_pack.rece_ops import RECESettings, erase
from rece_pack.rece_ops.linear.gram import measured_gram
from torch import Tensor

from benchmarks.erase_benchmark.stacks import SIZES, random_pairs, random_projections
from benchmarks.records import RESULTS, read_records, write_records

# Singular values of the weights fall as the k-th to the power of minus this.
SPECTRA = {"flat": 0.0, "falling": 0.5, "steep": 1.0}
REGULARIZATIONS = (1e-1, 1e-2, 1e-3)


@dataclass(frozen=True)
class GramError:
    """One measurement: errors in the spectral norm, and of ΔW relative to its size."""

    machine: str
    size: str
    spectrum: str
    condition: float
    gram_error: float
    gram_estimate: float
    regularization: float
    reads: int
    change_error: float


class CountedReads(Mapping[str, Tensor]):
    """Weights that count how often the first of them is read."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights, self.reads = weights, 0

    def __getitem__(self, name: str) -> Tensor:
        self.reads += name == next(iter(self._weights))
        return self._weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def weights_with_spectrum(size: str, exponent: float, device: str) -> dict[str, Tensor]:
    """Random key and value weights whose singular values fall by that power, as float32 that once was float16."""
    weights = random_projections(SIZES[size], device=device)
    dimension = SIZES[size].dimension
    values = torch.arange(1, dimension + 1, device=device, dtype=torch.float32) ** -exponent
    values *= values.square().mean().rsqrt()
    generator = torch.Generator().manual_seed(5)
    basis = torch.linalg.qr(torch.randn(dimension, dimension, generator=generator).to(device)).Q
    shape = (basis * values) @ basis.T if exponent else torch.eye(dimension, device=device)
    return {name: (weight @ shape).half().float() for name, weight in weights.items()}


def measure(size: str, spectrum: str, device: str, machine: str) -> list[GramError]:
    """One size and spectrum, with every λ_r and the published three epochs."""
    weights = weights_with_spectrum(size, SPECTRA[spectrum], device)
    doubles = {name: weight.double() for name, weight in weights.items()}
    gram, estimate = measured_gram(weights, _ignore)
    exact, _ = measured_gram(doubles, _ignore)
    error = float(torch.linalg.eigvalsh(gram - exact).abs().max())
    values = torch.linalg.eigvalsh(exact)
    condition = float(values[-1] / values[0].clamp(min=values[-1] * torch.finfo(torch.float64).eps))
    pairs, preserve = random_pairs(1, SIZES[size], device=device)
    found = []
    for regularization in REGULARIZATIONS:
        settings = RECESettings(regularization=regularization)
        counted = CountedReads(weights)
        ours = erase(counted, pairs, preserve, settings).eraser.to(dtype=torch.float64).difference()
        best = erase(doubles, pairs, preserve, settings).eraser.to(dtype=torch.float64).difference()
        change_error = (_energy(ours - best, exact) / _energy(best, exact)) ** 0.5
        found.append(
            GramError(machine, size, spectrum, condition, error, estimate, regularization, counted.reads, change_error)
        )
    return found


def _ignore(stage: str) -> None:
    pass


def _energy(difference: Tensor, gram: Tensor) -> float:
    """Σ_l ‖W_l·difference‖²."""
    return float(((gram @ difference) * difference).sum())


def table(found: list[GramError]) -> str:
    """The figures in Markdown."""
    lines = [
        "# Error of G in float32 blocks, and of the erasure made with it",
        "",
        f"Measured {time.strftime('%Y-%m-%d')} by `python -m benchmarks.erase_benchmark.gram_error` (see there): one concept, three epochs.",
        "Steep spectra are nearly singular; where the estimate asks for it, G is read again in float64 (reads: 2).",
        "",
        "| machine | size | spectrum | κ(G) | ‖δG‖₂ | its estimate | λ_r | reads | ‖δΔW‖ / ‖ΔW‖ |",
        "| --- " * 9 + "|",
    ]
    lines += [
        f"| {one.machine} | {one.size} | {one.spectrum} | {one.condition:.0e} | {one.gram_error:.1e} | "
        f"{one.gram_estimate:.1e} | {one.regularization:g} | {one.reads} | {one.change_error:.1e} |"
        for one in found
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure, and add to what other machines measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    from benchmarks.erase_benchmark.run import machine

    name = str(machine(arguments.device)["name"]) or platform.machine()
    path = arguments.out / "gram_error.json"
    found = [
        one
        for one in read_records(path, GramError)
        if (one.machine, one.size) not in {(name, s) for s in arguments.sizes}
    ]
    for size in arguments.sizes:
        for spectrum in SPECTRA:
            found += measure(size, spectrum, arguments.device, name)
            for one in found[-len(REGULARIZATIONS) :]:
                print(one, flush=True)
            write_records(path, found)
    path.with_suffix(".md").write_text(table(found), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
