"""torch-fidelity (0.4.0), wrapped so that its traps cannot bite.

- It ignores misspelled options: every name is checked against the ones it knows.
- Its cache is keyed by the input's and the extractor's name, not by content: always off.
- It gives NaN without a word when there are fewer samples than splits: refused, like any score not finite.
- Its path for conditional generators crashes on NumPy 2: it is only ever given a `Dataset`.
- It asks for CUDA by default and starts up to four loading processes: neither here.
- It knows "float64" as float32: what double precision needs (FID's means) goes in as double.

Features are computed once, by `Extractor.features`, and handed to torch-fidelity as rows through an extractor
that passes them on; so IS, FID and accuracy are about the very same numbers. `superlora-digits` is registered
besides, for calling torch-fidelity on pictures directly.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics
from torch_fidelity.defaults import DEFAULTS
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import KEY_METRIC_FID
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY, register_feature_extractor

from superlora_diffusion.errors import ConfigError, EvaluationError, nearest
from superlora_diffusion.evaluation.extractors import load_extractor

ROWS_EXTRACTOR = "superlora-rows"
DIGITS_EXTRACTOR = "superlora-digits"
KID_SUBSETS = 100
NEIGHBOURS = 3
_PRC_ENTRIES = 2**23  # distances held at once, 64 MiB of doubles, however many images there are
# Set here and nowhere else: a caller who could switch the cache on would get old scores for new pictures.
FIXED_OPTIONS = {"cache": False, "cuda": False, "save_cpu_ram": True, "verbose": False}


class TensorRows(Dataset):
    """The rows of a tensor: features (N, D), or uint8 pictures (N, 3, H, W)."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return self.rows[index]


class RowsExtractor(FeatureExtractorBase):
    """Passes on features that were computed before."""

    def __init__(self, name: str, features_list: list[str], **_unused: Any) -> None:
        super().__init__(name, features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("rows",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "rows"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, rows: Tensor) -> tuple[Tensor, ...]:
        return (rows,)


class DigitsExtractor(FeatureExtractorBase):
    """The digits net on uint8 pictures (B, 3, H, W); ``feature_extractor_weights_path`` for other weights."""

    def __init__(
        self,
        name: str,
        features_list: list[str],
        feature_extractor_weights_path: str | None = None,
        **_unused: Any,
    ) -> None:
        super().__init__(name, features_list)
        self.net = load_extractor("digits", path=feature_extractor_weights_path).network

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("features", "logits")

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = dict(zip(self.get_provided_features_list(), self.net(images), strict=True))
        return tuple(found[name] for name in self.features_list)


def register_extractors() -> None:
    """Make both extractors known to torch-fidelity, which refuses a second time: once a process."""
    for name, kind in ((ROWS_EXTRACTOR, RowsExtractor), (DIGITS_EXTRACTOR, DigitsExtractor)):
        if name not in FEATURE_EXTRACTORS_REGISTRY:
            register_feature_extractor(name, kind)


register_extractors()


def run_metrics(**options: Any) -> dict[str, float]:
    """torch-fidelity's `calculate_metrics` with checked names, the fixed options and checked results.

    Raises:
        ConfigError: an option torch-fidelity does not know, or one that is fixed here.
        EvaluationError: a score that is not finite.
    """
    for name in options:
        if name not in DEFAULTS:
            raise ConfigError(
                f"torch-fidelity has no option {name!r} (it would ignore it).{nearest(name, DEFAULTS)}"
            )
        if name in FIXED_OPTIONS:
            raise ConfigError(
                f"torch-fidelity's option {name!r} is fixed at {FIXED_OPTIONS[name]!r} here; leave it out."
            )
    scores = calculate_metrics(**options, **FIXED_OPTIONS)
    for name, value in scores.items():
        if not math.isfinite(value):
            raise EvaluationError(
                f"{name} came out as {value}; expected a finite number. Check the features for NaN and the "
                "number of images against the splits."
            )
    return scores


def inception_score(logits: Tensor, splits: int, seed: int) -> tuple[float, float]:
    """Mean and standard deviation over ``splits`` of exp(E_x KL(p(y|x) || p(y))), Salimans et al. 2016.

    logits: (N, C). Rows are shuffled by ``seed`` first: row i goes to the same split for the same (N, splits,
    seed), so another order of the images gives a slightly other mean, unless ``splits`` is 1. The deviation
    is torch-fidelity's: over the splits, divided by ``splits``, not by one less.

    Raises:
        EvaluationError: fewer rows than splits, splits below 1, logits that are not finite.
    """
    _check_rows(logits, "logits")
    if not 1 <= splits <= len(logits):
        raise EvaluationError(
            f"an Inception Score of {len(logits)} images in {splits} splits was asked for; every split needs "
            "at least one image. Generate more images or ask for fewer splits."
        )
    scores = run_metrics(
        input1=TensorRows(logits.double()),
        feature_extractor=ROWS_EXTRACTOR,
        isc=True,
        isc_splits=splits,
        samples_shuffle=True,
        rng_seed=seed,
        batch_size=len(logits),
    )
    return scores[KEY_METRIC_ISC_MEAN], scores[KEY_METRIC_ISC_STD]


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """FID (Heusel et al. 2017): |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of two sets of rows.

    first, second: (N, D) and (M, D), taken as double. Rounding leaves equal sets at about -1e-10; what is
    below zero is given as 0.

    Raises:
        EvaluationError: fewer than two rows, different widths, features that are not finite.
    """
    scores = _compare(first, second, "FID", 2, fid=True)
    return max(0.0, scores[KEY_METRIC_FID])


def kernel_distance(
    first: Tensor, second: Tensor, subset_size: int, seed: int, subsets: int = KID_SUBSETS
) -> tuple[float, float]:
    """KID (Binkowski et al. 2018): mean and deviation, over random subsets, of the unbiased squared MMD.

    The kernel is (x.y / D + 1)^3. first, second: (N, D) and (M, D), taken as double; each subset is drawn
    without replacement from both, by ``seed``. Unbiased, so it may be slightly below zero.

    Raises:
        EvaluationError: fewer rows than ``subset_size`` or a size below two, different widths, features that
            are not finite.
    """
    scores = _compare(
        first,
        second,
        "KID",
        max(2, subset_size),
        kid=True,
        kid_subset_size=subset_size,
        kid_subsets=subsets,
        rng_seed=seed,
    )
    return scores[KEY_METRIC_KID_MEAN], scores[KEY_METRIC_KID_STD]


def precision_recall(generated: Tensor, real: Tensor, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019), each in [0, 1].

    Precision: share of generated rows within reach of a real one, recall the other way about; a row reaches
    as far as its ``neighbours``-th nearest neighbour in its own set. generated, real: (N, D) and (M, D),
    taken as double, because distances between equal rows would come out above zero otherwise.

    Raises:
        EvaluationError: too few rows to have so many neighbours, different widths, features not finite.
    """
    batch = max(1, _PRC_ENTRIES // max(len(generated), len(real)))
    scores = _compare(
        generated,
        real,
        "precision and recall",
        neighbours + 1,
        prc=True,
        prc_neighborhood=neighbours,
        prc_batch_size=batch,
    )
    return scores[KEY_METRIC_PRECISION], scores[KEY_METRIC_RECALL]


def _compare(first: Tensor, second: Tensor, what: str, least: int, **options: Any) -> dict[str, float]:
    """torch-fidelity's scores of two sets of rows, checked first."""
    for rows in (first, second):
        _check_rows(rows, "features")
    if first.shape[1] != second.shape[1] or min(len(first), len(second)) < least:
        number = {2: "two"}.get(least, str(least))
        raise EvaluationError(
            f"{what} got features of shapes {tuple(first.shape)} and {tuple(second.shape)}; it needs the "
            f"same number of columns and at least {number} rows in each. Use one extractor for both and score "
            "more images."
        )
    return run_metrics(
        input1=TensorRows(first.double()),
        input2=TensorRows(second.double()),
        feature_extractor=ROWS_EXTRACTOR,
        batch_size=max(len(first), len(second)),
        **options,
    )


def _check_rows(rows: Tensor, what: str) -> None:
    if rows.ndim != 2 or not rows.numel():
        raise EvaluationError(
            f"{what} have the shape {tuple(rows.shape)}; expected (N, D) with at least one row."
        )
    if not torch.isfinite(rows).all():
        broken = int((~torch.isfinite(rows)).any(dim=1).sum())
        raise EvaluationError(
            f"{what} of {broken} of {len(rows)} images are not finite; expected numbers. Look at the images, "
            "then at the extractor's weights."
        )
