"""What a run needs before its first step: base, data, what trains, optimiser, schedule, moving average."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from ..adapters import SuperLoRA, SuperLoRAConfig, attach
from ..data.loading import load_image_set
from ..errors import ConfigError, nearest
from ..models.base import Base
from ..models.build import build_base
from ..models.classifier import Classifier
from ..models.families.family import Family
from ..models.noising import FlowMatching
from ..models.shapes import network_family
from ..models.storage import load_base
from ..peers import Peer, attach_peer
from ..runs.config import RunConfig
from ..runs.folder import RunFolder
from .heads import load_or_build_classifier

WHAT = {"superlora": "the adapter", "full": "all weights of the network"}


@dataclass
class Trainee:
    """What trains: named parameters, and the adapter or peer they belong to (None for method full)."""

    base: Base | Classifier
    adapter: SuperLoRA | Peer | None
    parameters: dict[str, nn.Parameter]
    """All that the optimiser holds, a head's last."""
    what: str
    """What trains, in words, beside a head."""
    notes: Sequence[str] = ()
    """What a user should know of how it was attached, a line each."""
    head: dict[str, nn.Parameter] = field(default_factory=dict)
    """Those of them that are a classifier's head, which trains beside an adapter or peer."""

    def fixed(self) -> dict[str, Tensor]:
        """Frozen state of a peer, which a checkpoint keeps since a library may not draw it again alike."""
        return self.adapter.fixed() if isinstance(self.adapter, Peer) else {}

    @property
    def count(self) -> int:
        """How many numbers train, a head's not counted."""
        return sum(value.numel() for name, value in self.parameters.items() if name not in self.head)

    @property
    def head_count(self) -> int:
        """How many numbers of a head train beside them."""
        return sum(parameter.numel() for parameter in self.head.values())


def tell_counts(count: int, what: str, head_count: int) -> str:
    """ "1,134 numbers (the adapter)", and those of a head that trains beside it."""
    beside = f" and {head_count:,} of the head" if head_count else ""
    return f"{count:,} numbers ({what}){beside}"


def resolve(config: RunConfig) -> RunConfig:
    """The config with what depends on its base's family: the adapter's targets where nobody named them.

    Raises:
        BaseModelError: if there is no such base.
    """
    if config.base.build is not None or config.classifies or "targets" in config.adapter.model_fields_set:
        return config
    return config.model_copy(update={"adapter": adapter_settings(config, network_family(config.base))})


def adapter_settings(config: RunConfig, family: Family) -> SuperLoRAConfig:
    """The settings of a run's adapter, with the family's targets where nobody named any."""
    settings = config.adapter
    wanted = (*family.targets, *(family.text_targets if config.base.text_encoders else ()))
    if "targets" in settings.model_fields_set or settings.targets == wanted:
        return settings
    return settings.model_copy(update={"targets": wanted})


def adapter_for(config: RunConfig, base: Base | Classifier) -> SuperLoRAConfig:
    """The settings of a run's adapter on its base."""
    return config.adapter if isinstance(base, Classifier) else adapter_settings(config, base.family)


def load_or_build_base(config: RunConfig) -> Base | Classifier:
    """The base of a run; a fresh one takes the data's class names where it names none."""
    if config.classifies:
        return load_or_build_classifier(config)
    if config.base.build is None:
        return load_base(config.base)
    names = config.base.build.class_names
    if names is None:
        names = load_image_set(config.data, "train").class_names
    torch.manual_seed(config.seed)
    return build_base(config.base.build, names)


def make_trainee(config: RunConfig, base: Base | Classifier) -> Trainee:
    """Attach the adapter or the peer, or make every weight of the network trainable."""
    if config.method == "full":
        base.network.requires_grad_(True)
        return Trainee(base, None, dict(base.network.named_parameters()), WHAT["full"])
    head = head_beside(config, base)
    if config.method == "superlora":
        adapter = attach(base.adapted, adapter_for(config, base))
        return Trainee(
            base, adapter, {**dict(adapter.named_parameters()), **head}, WHAT["superlora"], head=head
        )
    peer = attach_peer(base.adapted, config.method, config.peer_settings, config.seed)
    return Trainee(base, peer, {**peer.parameters, **head}, peer.what, peer.notes, head)


def head_beside(config: RunConfig, base: Base | Classifier) -> dict[str, nn.Parameter]:
    """What of a classifier's head trains beside an adapter or peer, by name; it is frozen otherwise."""
    if config.method == "full" or not isinstance(base, Classifier):
        return {}
    base.head.requires_grad_(base.head_trains)
    return {f"head.{name}": value for name, value in base.head.named_parameters() if base.head_trains}


def make_accelerator(config: RunConfig, folder: RunFolder, device: torch.device) -> Accelerator:
    """accelerate's view of the machine, on the given device (launched processes each take their own).

    Raises:
        ConfigError: for a tracker that is unknown or not installed, or a precision the device lacks.
    """
    precision, trackers = config.train.mixed_precision, list(config.log.trackers)
    _check_trackers(trackers)
    if precision == "fp16" and device.type == "cpu":
        text = "got 'fp16' on the CPU, which has no fp16 training; use bf16 or no."
        raise ConfigError(faults=[("train.mixed_precision", text)])
    with _fresh_accelerate_state(device):
        return Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=precision,
            gradient_accumulation_steps=config.train.gradient_accumulation,
            log_with=trackers or None,
            project_dir=str(folder.path) if trackers else None,
        )


@contextmanager
def _fresh_accelerate_state(device: torch.device) -> Iterator[None]:
    """Let a process train several runs in turn: accelerate remembers the first one's device and precision.

    A device with a number ("cuda:1") reaches accelerate by its environment variable alone.
    """
    AcceleratorState._reset_state(reset_partial_state="LOCAL_RANK" not in os.environ)
    before = os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
    wanted = str(device) if device.index is not None else before
    if wanted is not None and device.type != "cpu":
        os.environ["ACCELERATE_TORCH_DEVICE"] = wanted
    try:
        yield
    finally:
        os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
        if before is not None:
            os.environ["ACCELERATE_TORCH_DEVICE"] = before


def _check_trackers(names: list[str]) -> None:
    known = [str(name) for name in LoggerType if str(name) != "all"]
    there = [str(name) for name in get_available_trackers()]
    for name in names:
        if name not in known:
            text = f"got {name!r}.{nearest(name, known)} Accepted: {', '.join(known)}."
            raise ConfigError(faults=[("log.trackers", text)])
        if name not in there:
            raise ConfigError(faults=[("log.trackers", f"got {name!r}, which is not installed here.")])


def refuse_what_does_not_fit(config: RunConfig, base: Base | Classifier) -> None:
    """Raise ConfigError for settings of training that the base cannot have."""
    faults = [] if isinstance(base, Classifier) else list(_faults_of_denoiser(config, base))
    if config.method == "full" and base.dtype != torch.float32:
        text = f"method full trains the base's own weights; {base.dtype} is too coarse, use fp32."
        faults.append(("base.precision", text))
    if faults:
        raise ConfigError(faults=faults)


def _faults_of_denoiser(config: RunConfig, base: Base) -> Iterator[tuple[str, str]]:
    if config.train.min_snr_gamma is not None and isinstance(base.noising, FlowMatching):
        text = f"base {base.name!r} learns flow matching, which has no such weights."
        yield "train.min_snr_gamma", text
    if config.train.compile and base.adapts_text:
        yield "train.compile", "does not go with base.text_encoders, whose prompts are encoded in each step."


def make_optimizer(config: RunConfig, trainee: Trainee) -> torch.optim.Optimizer:
    """The optimiser of the settings; a head that trains beside has a rate of its own.

    Raises:
        ConfigError: for adamw8bit without bitsandbytes.
    """
    settings = config.train
    own = [value for name, value in trainee.parameters.items() if name not in trainee.head]
    parameters: list = own
    if trainee.head:
        rate = config.classification.head_learning_rate
        parameters = [{"params": own}, {"params": list(trainee.head.values()), "lr": rate}]
    if settings.optimizer == "adamw8bit":
        return _adamw_8bit(config, parameters)
    return adamw(parameters, config.learning_rate, settings.betas, settings.weight_decay)


def _adamw_8bit(config: RunConfig, parameters: list) -> torch.optim.Optimizer:
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        how = "pip install 'superlora-diffusion[8bit]', or use adamw"
        text = f"got 'adamw8bit', which needs bitsandbytes ({error}): {how}."
        raise ConfigError(faults=[("train.optimizer", text)]) from error
    settings = config.train
    rate, decay = config.learning_rate, settings.weight_decay
    return AdamW8bit(parameters, lr=rate, betas=settings.betas, weight_decay=decay)


def adamw(
    parameters: list,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.99),
    weight_decay: float = 0.0,
) -> torch.optim.AdamW:
    """AdamW in one kernel a step: with dozens of small tensors the plain one is mostly overhead.

    ``parameters`` are a list of them, or of groups with rates of their own.
    """
    return torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)


def make_lr_schedule(config: RunConfig, optimizer: torch.optim.Optimizer, done: int = 0):
    """diffusers' learning-rate schedule, moved on by the steps already done."""
    settings = config.train
    warmup = min(settings.warmup_steps, settings.steps)
    schedule = get_scheduler(
        settings.lr_schedule, optimizer, num_warmup_steps=warmup, num_training_steps=settings.steps
    )
    if done:
        rates = [base * at(done) for base, at in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
        schedule.load_state_dict({**schedule.state_dict(), "last_epoch": done, "_last_lr": rates})
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
    return schedule


def make_ema(config: RunConfig, parameters: list[nn.Parameter]) -> EMAModel | None:
    """diffusers' moving average, warming up with the number of steps; None where none is kept."""
    decay = config.train.ema_decay
    return None if decay is None else EMAModel(parameters, decay=decay)
