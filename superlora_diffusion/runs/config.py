"""``RunConfig``: everything a run is made of. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import ConfigDict, Field, field_validator, model_validator

from ..adapters.config import SuperLoRAConfig
from ..data.config import DataConfig
from ..errors import ConfigError, nearest
from ..models.config import EMBEDDED_BASE, BaseSettings
from ..peers.config import LycorisSettings, PeftSettings
from ..peers.rates import peer_learning_rate
from ..sampling.config import SamplingSettings
from ..settings import Settings

LrSchedule = Literal[
    "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"
]
Beta = Annotated[float, Field(ge=0, lt=1)]
Task = Literal["denoising", "classification"]
Metric = Literal["is", "fid", "kid", "prc", "accuracy"]
METRICS: tuple[Metric, ...] = get_args(Metric)
EXTRACTORS = ("auto", "digits", "inception", "dinov2", "clip")
"""By name; a folder that ``extractor train`` wrote is one, too."""


class Judge(NamedTuple):
    """A score that can decide which step was best."""

    metric: Metric | None
    """The metric that gives it; None for what every validation measures."""
    higher: bool
    """Whether more is better."""


BestBy = Literal[
    "validation_loss",
    "validation_accuracy",
    "is_distance",
    "is_mean",
    "fid",
    "kid",
    "precision",
    "recall",
    "accuracy",
]
BEST_BY: dict[str, Judge] = {
    "validation_loss": Judge(None, False),
    "validation_accuracy": Judge(None, True),
    "is_distance": Judge("is", False),
    "is_mean": Judge("is", True),
    "fid": Judge("fid", False),
    "kid": Judge("kid", False),
    "precision": Judge("prc", True),
    "recall": Judge("prc", True),
    "accuracy": Judge("accuracy", True),
}


class PriorSettings(Settings):
    """Prior preservation (Ruiz et al. 2022, DreamBooth, arXiv 2208.12242).

    Images of the class that a thing belongs to, drawn by the untouched base, train beside the thing's own, so that the
    class does not turn into the thing.
    """

    prompt: str = Field(min_length=1)
    """What the class is called: "a photo of a dog"."""
    images: int = Field(100, ge=1)
    """How many are drawn, once, into RUN/prior."""
    weight: float = Field(1.0, gt=0)
    """Weight of their loss beside that of the training images."""


class TrainSettings(Settings):
    """The loop: steps, batches, AdamW, learning rate, EMA, precision."""

    model_config = ConfigDict(allow_inf_nan=False)

    steps: int = Field(1000, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(64, ge=1)
    """Images a step and process, before accumulation."""
    gradient_accumulation: int = Field(1, ge=1)
    """Batches added up for one optimiser step."""
    learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate; null takes the one for the adapter's variant or for the method."""
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    """adamw8bit keeps AdamW's state in 8 bits (bitsandbytes): for method full, since an adapter's state is tiny."""
    lr_schedule: LrSchedule = "cosine"
    """Learning-rate schedule, by diffusers."""
    warmup_steps: int = Field(50, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[Beta, Beta] = (0.9, 0.99)
    max_grad_norm: float | None = Field(1.0, gt=0)
    """Gradient norm above which gradients are scaled down; null never does."""
    class_dropout: float = Field(0.1, ge=0, lt=1)
    """Share of images trained without their class or caption (``caption_dropout`` is another name), for classifier-free
    guidance."""
    min_snr_gamma: float | None = Field(None, gt=0)
    """Min-SNR loss weighting (Hang et al. 2023, arXiv 2303.09556); null weights all timesteps alike."""
    ema_decay: float | None = Field(0.99, ge=0, lt=1)
    """Decay of the moving average of the weights, which is what is saved and scored; null keeps none."""
    prior: PriorSettings | None = None
    """Prior preservation, for a base that takes text; null does without."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    """Trade time for memory."""
    compile: bool = False
    """Compile the network by ``torch.compile``: a minute or two at the start, faster steps after it."""
    channels_last: bool = False
    """Keep images as rows of channels in memory. Changes speed, and losses by rounding alone."""

    @model_validator(mode="before")
    @classmethod
    def _caption_dropout_is_class_dropout(cls, values: Any) -> Any:
        return rename(values, "caption_dropout", "class_dropout")


def rename(values: Any, other: str, name: str) -> Any:
    """Values in which a field may be called by another name, but not by both."""
    if not isinstance(values, dict) or other not in values:
        return values
    if name in values:
        raise ConfigError(faults=[(other, f"is another name of {name}, which is given, too; keep one.")])
    return {name if key == other else key: value for key, value in values.items()}


class ValidationSettings(Settings):
    """The deterministic held-out loss (fixed noise and timesteps)."""

    every: int = Field(200, ge=1)
    """Steps between two measurements."""
    images: int = Field(512, ge=1)
    """Held-out images used, evenly spread over the test split."""
    seed: int = Field(1234, ge=0)


class CheckpointSettings(Settings):
    every: int = Field(500, ge=1)
    """Steps between two checkpoints."""
    keep: int = Field(2, ge=1)
    """How many of the newest are kept."""


class PreviewSettings(Settings):
    every: int | None = Field(500, ge=1)
    """Steps between two sample grids during training; null makes none."""
    per_class: int = Field(4, ge=1)
    """Images of each class or prompt."""
    prompts: tuple[str, ...] = ()
    """What a base that takes text is asked for; by default four captions of the training images."""


class LogSettings(Settings):
    every: int = Field(20, ge=1)
    """Steps between two lines of metrics."""
    trackers: tuple[str, ...] = ()
    """Experiment trackers by accelerate, for example [tensorboard]."""


class EvaluationSettings(Settings):
    """How ``eval-is`` scores."""

    metrics: tuple[Metric, ...] = Field(METRICS, min_length=1)
    """Which scores: is (Inception Score), fid, kid, prc (precision and recall), accuracy."""
    images: int = Field(1000, ge=2)
    """Number of generated images, and of real ones."""
    splits: int = Field(10, ge=1)
    """Parts over which the Inception Score's mean and deviation are taken."""
    seed: int = Field(0, ge=0)
    extractor: str = "auto"
    """auto, digits, inception, dinov2, clip, or a folder that ``extractor train`` wrote."""
    extractor_path: str | None = None
    """Weights of the extractor, where it does not bring its own; for dinov2 and clip a folder or a hub id."""

    every: int | None = Field(None, ge=1)
    """Steps between two scorings while a run trains; null scores none."""
    interval_images: int = Field(250, ge=2)
    """Images drawn for each of these."""
    best_by: BestBy = "fid"
    """The score by which the best step is kept in RUN/best: fid, kid, is_distance, is_mean, precision, recall, accuracy
    (these need ``every``), or at every validation validation_loss or, for task classification, validation_accuracy."""

    @field_validator("metrics", mode="before")
    @classmethod
    def _each_metric_once(cls, value: object) -> object:
        """Names with commas between are a list too; each counts once, in the usual order."""
        if isinstance(value, str):
            value = [word.strip() for word in value.split(",") if word.strip()]
        if not isinstance(value, list | tuple):
            return value
        for name in value:
            if name not in METRICS:
                text = f"got {name!r}.{nearest(str(name), METRICS)} Accepted: {', '.join(METRICS)}."
                raise ValueError(text)
        return [name for name in METRICS if name in value]

    @model_validator(mode="after")
    def _intervals_hold_a_split(self) -> EvaluationSettings:
        if self.every is not None and self.interval_images < self.splits:
            text = (
                f"got {self.interval_images} for {self.splits} splits; every split needs at least one image."
            )
            raise ConfigError(faults=[("interval_images", text)])
        return self


class ClassificationSettings(Settings):
    """What task classification has beside the other settings of training."""

    head: Literal["auto", "new", "train", "frozen"] = "auto"
    """The layer that names the classes: new (started at zero, it trains beside the adapter), train (the base's own,
    trained along) or frozen (the base's own, as it is). auto: frozen where the data has the base's classes or
    ``data.class_map`` leads to them, otherwise new."""
    head_learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of a head that trains beside something else; method full trains it at its own rate."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of a label that is spread over all classes (Szegedy et al. 2016, arXiv 1512.00567); the validation loss is
    without."""


_CHOOSE_LAYERS = ("adapter", "peft", "lycoris")
CLASSIFIER_TARGETS = ("qv",)
"""What is adapted of a classifier where nobody says: queries and values, whatever transformers calls them."""


class RunConfig(Settings):
    """One run: train, sample, score.

    Raises:
        ConfigError: listing every fault.
    """

    output: str
    """The run folder."""
    task: Task = "denoising"
    """denoising trains a diffusion model; classification a vision transformer, which ``eval-acc`` scores. Sections of
    how images are drawn and scored (preview, sampling, evaluation) are then not used, but for evaluation.best_by."""
    method: Literal["superlora", "full", "peft", "lycoris", "bitfit", "norms", "difffit"] = "superlora"
    """superlora trains our adapter on a frozen base; full trains every weight of the network; peft and lycoris a
    tuner of these libraries; bitfit all biases; norms the normalisation layers; difffit both, the class embedding
    and a scale a block. Sections of other methods than this one are not used."""
    seed: int = Field(0, ge=0)
    base: BaseSettings = BaseSettings()
    data: DataConfig = DataConfig()
    adapter: SuperLoRAConfig = SuperLoRAConfig()
    peft: PeftSettings = PeftSettings()
    lycoris: LycorisSettings = LycorisSettings()
    train: TrainSettings = TrainSettings()
    validation: ValidationSettings = ValidationSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    preview: PreviewSettings = PreviewSettings()
    log: LogSettings = LogSettings()
    sampling: SamplingSettings = SamplingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    classification: ClassificationSettings = ClassificationSettings()

    @model_validator(mode="before")
    @classmethod
    def _eval_is_evaluation(cls, values: Any) -> Any:
        """The section may be called ``eval`` for short."""
        return rename(values, "eval", "evaluation")

    @model_validator(mode="before")
    @classmethod
    def _classifiers_have_targets_of_their_own(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("task") != "classification":
            return values
        sections = {name: values.get(name, {}) for name in _CHOOSE_LAYERS}
        return {**values, **{name: _with_targets(section) for name, section in sections.items()}}

    @field_validator("output")
    @classmethod
    def _output_is_a_path(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("got an empty name: give the run folder, such as runs/mine")
        return value

    @model_validator(mode="after")
    def _adapter_needs_a_trained_base(self) -> RunConfig:
        if self.method != "full" and self.base.build is not None:
            what = "an adapter" if self.method == "superlora" else f"method {self.method!r}"
            text = f"{what} on a randomly built base learns nothing; use method 'full' first, then its base."
            raise ConfigError(faults=[("base.build", text)])
        return self

    @model_validator(mode="after")
    def _task_fits(self) -> RunConfig:
        faults = list(_faults_of_classification(self) if self.classifies else _faults_of_denoising(self))
        if faults:
            raise ConfigError(faults=faults)
        return self

    @property
    def classifies(self) -> bool:
        """Whether the task is classification."""
        return self.task == "classification"

    @property
    def learning_rate(self) -> float:
        """The peak learning rate, the measured default filled in."""
        if self.train.learning_rate is not None:
            return self.train.learning_rate
        if self.method == "full":
            return 1e-3
        if self.method == "superlora":
            return self.adapter.learning_rate
        return peer_learning_rate(self.method, self._library_name)

    @property
    def _library_name(self) -> str | None:
        """The tuner or algorithm of a library's method."""
        return {"peft": self.peft.tuner, "lycoris": self.lycoris.algo}.get(self.method)

    @property
    def peer_settings(self) -> PeftSettings | LycorisSettings | None:
        """The section of the method where it is a library's."""
        return {"peft": self.peft, "lycoris": self.lycoris}.get(self.method)

    @property
    def is_peer(self) -> bool:
        """Whether the method is neither ours nor full."""
        return self.method not in ("superlora", "full")


def _with_targets(section: Any) -> Any:
    """A section with a classifier's targets, where it does not say its own."""
    if isinstance(section, dict):
        return {"targets": CLASSIFIER_TARGETS, **section}
    if isinstance(section, Settings) and "targets" not in section.model_fields_set:
        return section.model_copy(update={"targets": CLASSIFIER_TARGETS})
    return section


def _faults_of_denoising(config: RunConfig) -> Iterator[tuple[str, str]]:
    if config.base.build is not None and config.base.build.vit is not None:
        yield (
            "base.build.vit",
            "a vision transformer draws no images: set task: classification, or build a unet.",
        )
    if config.evaluation.best_by == "validation_accuracy":
        yield "evaluation.best_by", "got 'validation_accuracy', which task classification alone measures."


def _faults_of_classification(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Settings that a classifier cannot have; sections that it does not use may say what they like."""
    wanted = "a folder or hub id of a ViT, or base.build.vit, is expected with task classification"
    if config.base.path == EMBEDDED_BASE:
        yield "base.path", f"got {EMBEDDED_BASE!r}, which draws images: {wanted}."
    if config.base.build is not None and config.base.build.unet is not None:
        yield "base.build.unet", f"a U-Net does not classify: {wanted}."
    used = {
        "base.text_encoders": config.base.text_encoders,
        "base.null_class": config.base.null_class is not None,
        "data.buckets": config.data.buckets,
        "data.resolution": config.data.resolution is not None,
        "train.min_snr_gamma": config.train.min_snr_gamma is not None,
        "train.prior": config.train.prior is not None,
        "evaluation.every": config.evaluation.every is not None,
    }
    yield from ((key, "is of task denoising; leave it out.") for key, value in used.items() if value)
    if config.method == "difffit":
        yield "method", "got 'difffit', which scales layers of diffusers; bitfit and norms train a ViT's own."
    if config.method == "full" and config.classification.head == "frozen":
        yield "classification.head", "got 'frozen' with method full, which trains every weight."
