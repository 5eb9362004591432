"""From which numbers on a person would see it in pictures.

Read from 418 erasures of the pocket model and their pictures (`benchmarks.thresholds`): tendencies, of which single erasures
deviate.
"""

from __future__ import annotations

# Where other prompts drift by less, their pictures kept 95 % of what they say; beyond it 80 %, and beyond the next 29 %.
VISIBLE_DRIFT = 0.7
RUINOUS_DRIFT = 0.9
# Below it, a concept with a target was left in 3 to 19 % of its pictures.
SMALL_RESIDUAL = 0.1
# A concept whose outputs stay closer to their old place than to the target is still there.
HIGH_RESIDUAL = 0.5
# Beyond it, pictures of the derived embedding showed the concept in 96 to 100 %; below it in 54 to 71 %, so that none is blocked.
HIGH_REGENERATION = 0.5
