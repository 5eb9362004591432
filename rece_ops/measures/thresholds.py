"""From which numbers on a person would see it in pictures."""

from __future__ import annotations

# Found with benchmarks/drift_calibration.py: where the outputs of everyday prompts change by about half, their
# pictures are as far from what they were as another prompt's picture; beyond a change of one they are noise.
VISIBLE_DRIFT = 0.5
RUINOUS_DRIFT = 1.0
# A concept whose outputs stay closer to their old place than to the target is still there.
HIGH_RESIDUAL = 0.5
