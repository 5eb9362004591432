"""An erasure that counts only in part of a sampling, through ComfyUI's own hooks.

ComfyUI hangs hooks on CONDITIONING, steps through their keyframes, and changes the weights that they patch as it goes. An
erasure belongs to the MODEL, so that a wrapper around the sampling hangs the hook on every prompt.
"""

from __future__ import annotations

from typing import Any

from comfy.hooks import HookGroup, HookKeyframe, HookKeyframeGroup, WeightHook
from comfy.patcher_extension import WrappersMP

from ....rece_ops import Schedule
from ..errors import UnsupportedModelError
from ..protocols import Model

_WRAPPER = "rece_eraser"


class ScheduledErasure:
    """The hook of one erasure of a MODEL; called by ComfyUI around every sampling (`OUTER_SAMPLE`).

    Args:
        schedule: of the strength.

    Attributes:
        hook: what patches of weights are added under (`add_hook_patches`).
        schedule: as given.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.hook = WeightHook()
        self._keyframes: HookKeyframeGroup | None = None

    @property
    def strengths(self) -> set[float]:
        """All that it takes."""
        return {strength for _, strength in self.schedule.levels}

    @property
    def strength(self) -> float:
        """At the step that is sampled now; 0 outside a sampling, as of every hook."""
        return 0.0 if self._keyframes is None else float(self._keyframes.strength)

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """Sample with the hook on every prompt."""
        # New ones each time: a group of keyframes remembers where the last sampling ended.
        self._keyframes = self.hook.hook_keyframe = _keyframes(self.schedule)
        hooked: dict[HookGroup | None, HookGroup] = {}
        for prompts in executor.class_obj.conds.values():
            for prompt in prompts:
                # Prompts with the same hooks are computed together only where they have the same group.
                before = prompt.get("hooks")
                if before not in hooked:
                    hooked[before] = _with_hook(before, self.hook)
                prompt["hooks"] = hooked[before]
        try:
            return executor(*args, **kwargs)
        finally:
            self._keyframes = None


def add_schedule(model: Model, schedule: Schedule) -> ScheduledErasure:
    """A hook in every sampling with MODEL."""
    erasure = ScheduledErasure(schedule)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, _WRAPPER, erasure)
    return erasure


def check_unscheduled(model: Model, what: str) -> None:
    """Raise UnsupportedModelError where an erasure in MODEL counts only in part of the steps, which `what` cannot follow."""
    if model.get_wrappers(WrappersMP.OUTER_SAMPLE, _WRAPPER):
        raise UnsupportedModelError(
            f"An erasure in this MODEL counts only in part of the steps, and {what} looks at no step: connect a model that is "
            "erased in all of them (a start of 0 and an end of 1 on 'Apply Eraser' and 'Shape Eraser')."
        )


def _keyframes(schedule: Schedule) -> HookKeyframeGroup:
    group = HookKeyframeGroup()
    for start, strength in schedule.levels:
        group.add(HookKeyframe(strength, start_percent=start, guarantee_steps=0))
    return group


def _with_hook(before: HookGroup | None, hook: WeightHook) -> HookGroup:
    own = HookGroup()
    own.add(hook)
    return own if before is None else before.clone_and_combine(own)
