"""Sampler names to diffusers' schedulers, on the base's own noise schedule."""

from __future__ import annotations

from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)

from ..errors import SamplingError

# Clipping the predicted image to [-1, 1] is left to the base's own config where the sampler knows it.
_SAMPLERS = {
    "ddim": (DDIMScheduler, {}),
    "ddpm": (DDPMScheduler, {}),
    "dpm++2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "euler": (EulerDiscreteScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
}


_FLOW_SAMPLERS = {
    "euler": (FlowMatchEulerDiscreteScheduler, {}),
    "dpm++2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": (UniPCMultistepScheduler, {}),
}


def make_scheduler(name: str, noise_schedule: SchedulerMixin, steps: int) -> SchedulerMixin:
    """The sampler ``name`` with its timesteps set, on the noise schedule of a base.

    Args:
        name: ddim, ddpm, dpm++2m, euler or unipc.
        noise_schedule: the base's scheduler; its betas, prediction type and spacing are kept.
        steps: number of denoising steps, at most the length of the noise schedule.

    Raises:
        SamplingError: if there are more steps than the noise schedule has.
    """
    longest = noise_schedule.config.num_train_timesteps
    if steps > longest:
        raise SamplingError(
            f"sampling.steps is {steps}; the base's noise schedule has {longest} steps at most."
        )
    if isinstance(noise_schedule, FlowMatchEulerDiscreteScheduler):
        return _make_flow_scheduler(name, noise_schedule, steps)
    kind, options = _SAMPLERS[name]
    accepted = kind._get_init_keys(kind)
    kept = {
        key: value
        for key, value in noise_schedule.config.items()
        if key in accepted and not key.startswith("_")
    }
    try:
        scheduler = kind.from_config({**kept, **options})
    except (NotImplementedError, ValueError) as error:
        raise SamplingError(f"sampler {name!r} does not accept the base's noise schedule: {error}") from error
    scheduler.set_timesteps(steps)
    return scheduler


def _make_flow_scheduler(name: str, schedule: FlowMatchEulerDiscreteScheduler, steps: int) -> SchedulerMixin:
    """A sampler along the straight lines of flow matching, with the base's shift."""
    if name not in _FLOW_SAMPLERS:
        raise SamplingError(f"sampler {name!r} knows no flow matching; {', '.join(_FLOW_SAMPLERS)} do.")
    kind, options = _FLOW_SAMPLERS[name]
    if kind is FlowMatchEulerDiscreteScheduler:
        scheduler = kind.from_config(schedule.config)
    else:
        flow = {
            "prediction_type": "flow_prediction",
            "use_flow_sigmas": True,
            "flow_shift": schedule.config.shift,
            "num_train_timesteps": schedule.config.num_train_timesteps,
        }
        scheduler = kind(**flow, **options)
    scheduler.set_timesteps(steps)
    return scheduler
