"""``SuperLoRAConfig``: the typed settings of an adapter, every illegal combination refused at construction."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ..errors import ConfigError, nearest
from ..settings import Settings
from .naming import Exclusions, Patterns
from .variants import DEFAULT_LEARNING_RATE, LEARNING_RATES, ONE_RATE, VARIANTS

FULL = "full"
RankEntry = Annotated[int, Field(ge=1, strict=True)] | Literal["full"]


class SuperLoRAConfig(Settings):
    """Settings of one adapter (design: "the method, exactly"; arXiv 2403.11887).

    A ``variant`` fills fields; fields given explicitly win. All sizes derived from these are exact integers.

    Raises:
        ConfigError: naming each faulty field, what came and what is accepted.
    """

    variant: str | None = None
    """A named setting: dense, lora, group_lora, lokr, lonkr, lotr, lorta, spectral."""
    targets: Patterns = ("to_q", "to_v")
    """Which weights to adapt: whole dotted components at the end of a module's name (to_q, attn1.to_q), wildcards
    among them (attn?.to_*, mid_block.**), whole names after a ^ (^conv_in), or presets: qv, qk, vo, qkvo, attention
    (with the added projections of joint attention), attention+mlp, all-linear (every plain Linear layer, those of the
    time and class embeddings too). In YAML what begins with * or holds [ ] is quoted."""
    exclude: Exclusions = ()
    """What of the targets to leave out, said in the same way."""
    groups: Annotated[int, Field(ge=1, strict=True)] | Literal["weight", "layer", "shape"] = 1
    """How the weights are joined: one group per matrix, per attention module, per shape, or into so many runs."""
    order: int = Field(2, ge=1, strict=True)
    """Number of modes M of the folded tensor; 1 is a plain vector."""
    fold: Literal["none", "square", "stack"] = "square"
    """The shape of the folded tensor."""
    side_multiple: int = Field(1, ge=1, strict=True)
    """Sides of a square fold are rounded up to a multiple of this."""
    rank: Annotated[int, Field(ge=1, strict=True)] | tuple[RankEntry, ...] = 4
    """Rank of the factors: one number, or with a full core one entry a mode, where "full" keeps the mode whole."""
    core: Literal["identity", "diagonal", "full"] = "identity"
    """identity and diagonal: CP; full: Tucker."""
    splits: int = Field(1, ge=1, strict=True)
    """Number of Kronecker factors K."""
    split_factor: int = Field(6, ge=1, strict=True)
    """Side of the small Kronecker factors B_k."""
    factor_all_splits: bool = False
    """Whether the small Kronecker factors are factored too."""
    projection: Literal[
        "none", "shuffle", "fastfood", "fastfood_tanh", "block_hadamard", "gather", "fourier", "singular"
    ] = "none"
    """The fixed map F from the m generated numbers to the n weights of a group: block_hadamard is the cheap one of the
    dense ones, gather gives each weight one of the numbers (Uni-LoRA), fourier takes them as coefficients at random
    frequencies (FourierFT), singular along the base's own singular directions (SVDiff), in units of each matrix."""
    directions: int = Field(8, ge=1, strict=True)
    """Under projection singular: along how many singular directions of each matrix, those of the largest singular
    values first; a matrix has at most min(out, in). The count follows from it, and ratio stays 1."""
    ratio: float = Field(1.0, gt=0, le=1)
    """Projection ratio rho: m = max(1, ceil(rho * n)) numbers are generated for n weights."""
    seed: int = Field(0, ge=0, strict=True)
    """Seed of the fixed projection and of the start."""
    scale: float = 1.0
    """Factor on the whole update, stored with the adapter. There is no hidden alpha / rank."""
    step: Literal["plain", "rms", "gain"] = "plain"
    """What a learning rate means: plain, whatever the setting makes of it; rms, by how much (root mean square) the
    first step changes the update of any setting; gain, that times sqrt(n/p), for n weights of a group by p numbers (50
    times under projection singular), and every tensor they are generated from by as much, so that one rate serves all
    settings."""
    route: Literal["auto", "weight", "products"] = "auto"
    """How updates reach their layers: added to the weight, or as two small products where a setting is of low rank
    matrix by matrix; auto takes what costs less. Changes speed and memory, never the update."""
    init_std: float | None = Field(None, gt=0)
    """Standard deviation of the start; null: variance 1/rank for factors, 1/split_factor for dense B_k; under step
    rms and gain what makes the first step 1."""

    @model_validator(mode="before")
    @classmethod
    def _fill_variant(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("variant") is None:
            return values
        name = values["variant"]
        if name not in VARIANTS:
            raise ConfigError(faults=[("variant", _unknown_variant(name))])
        return {**VARIANTS[name], **values}

    @field_validator("scale", "init_std")
    @classmethod
    def _finite(cls, value: float | None) -> float | None:
        if value is not None and (not math.isfinite(value) or value == 0):
            raise ValueError(f"got {value!r}: a finite number other than 0 is accepted")
        return value

    @field_validator("groups", "rank", mode="before")
    @classmethod
    def _no_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool):
            other = "'weight', 'layer' or 'shape'" if info.field_name == "groups" else "a list of ranks"
            raise ValueError(f"got {value!r}: a whole number of at least 1, or {other}, is accepted")
        return list(value) if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _legal(self) -> SuperLoRAConfig:
        faults = list(_illegal_combinations(self))
        if faults:
            raise ConfigError(faults=faults)
        return self

    @property
    def exact_ratio(self) -> Fraction:
        """The ratio as the decimal fraction that was written: 0.07 is 7/100, not the nearest binary number."""
        return Fraction(repr(float(self.ratio)))

    @property
    def learning_rate(self) -> float:
        """The measured learning rate of the variant, or the general default; one for all under step rms and gain."""
        if self.step in ONE_RATE:
            return ONE_RATE[self.step]
        return LEARNING_RATES.get(self.variant or "", DEFAULT_LEARNING_RATE)


def _unknown_variant(name: Any) -> str:
    return f"got {name!r}.{nearest(str(name), VARIANTS)} Accepted: {', '.join(VARIANTS)}, or null."


def _illegal_combinations(config: SuperLoRAConfig):
    """Yield (field, fault) for each combination outside the table of legal settings."""
    if config.order == 1 and config.splits > 1:
        yield (
            "splits",
            f"got {config.splits} with order 1: a plain vector has no Kronecker factors; use 1, or order 2.",
        )
    if config.splits > 1 and config.order > 2:
        yield (
            "order",
            f"got {config.order} with splits {config.splits}: Kronecker factors are matrices; use order 2.",
        )
    if config.fold == "none" and config.order > 2:
        yield "fold", f"got 'none' with order {config.order}: only order 2 has it; use fold 'square'."
    if config.fold == "stack" and (config.groups != "shape" or config.order != 3):
        came = f"got 'stack' with groups {config.groups!r} and order {config.order}"
        yield "fold", f"{came}: it stacks equal shapes; use groups 'shape' and order 3."
    if isinstance(config.rank, tuple):
        yield from _illegal_rank_list(config)
    if config.ratio < 1 and config.projection in ("none", "shuffle"):
        came = f"got {config.ratio} with projection {config.projection!r}"
        accepted = "'block_hadamard', 'gather', 'fourier', 'fastfood' or 'fastfood_tanh'"
        yield "ratio", f"{came}: fewer numbers than weights need projection {accepted}."
    if config.projection == "singular":
        yield from _illegal_with_singular(config)
    elif config.directions != SuperLoRAConfig.model_fields["directions"].default:
        came = f"got {config.directions} with projection {config.projection!r}"
        yield "directions", f"{came}: only projection 'singular' has directions; leave it out."


def _illegal_with_singular(config: SuperLoRAConfig):
    came = "with projection 'singular'"
    if config.ratio < 1:
        yield "ratio", f"got {config.ratio} {came}: the count follows from directions; use 1."
    if isinstance(config.groups, int) and config.groups > 1:
        yield (
            "groups",
            f"got {config.groups} {came}: runs would cut across matrices; use 1, 'weight', 'layer' or 'shape'.",
        )
    if config.fold == "stack":
        yield "fold", f"got 'stack' {came}: the numbers are no matrices; use 'none' or 'square'."


def _illegal_rank_list(config: SuperLoRAConfig):
    if config.order == 1:
        yield "rank", f"got {list(config.rank)} with order 1: a vector has no rank; leave it out."
    elif config.core != "full":
        yield "rank", f"got {list(config.rank)} with core {config.core!r}: a list of ranks needs core 'full'."
    elif len(config.rank) != config.order:
        yield "rank", f"got {len(config.rank)} entries: one for each of the {config.order} modes is accepted."
