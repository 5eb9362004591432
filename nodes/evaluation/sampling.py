"""The inputs that say how pictures are sampled, shared by the nodes that sample them for a detector."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.jobs.sample import Sampling
from ..request.prompt_sets import SIDES, Drawing
from ..schema.inputs import choice_input


def sampler_inputs(guidance: str, size: str) -> list[io.Input]:
    """The sampler's settings, the negative prompt, guidance and size.

    Args:
        guidance, size: tooltips of these two.
    """
    from ..host.jobs.sample import SAMPLERS, SCHEDULERS

    sampling, drawing = Sampling(), Drawing()
    return [
        io.Int.Input("steps", default=sampling.steps, min=1, max=1000, optional=True, tooltip="Steps of the sampler."),
        choice_input("sampler", SAMPLERS, sampling.sampler, "As in KSampler."),
        choice_input("scheduler", SCHEDULERS, sampling.scheduler, "As in KSampler."),
        io.String.Input("negative", default="", optional=True, tooltip="The negative prompt of all pictures."),
        io.Float.Input(
            "guidance",
            default=drawing.guidance,
            min=0.0,
            max=100.0,
            step=0.1,
            optional=True,
            tooltip=guidance,
        ),
        io.Int.Input("size", default=drawing.width, min=SIDES[0], max=SIDES[1], step=8, optional=True, tooltip=size),
    ]
