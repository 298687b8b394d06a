"""A classifier with the head that its run asks for: its own, or a new one for other classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..data.loading import load_image_set
from ..errors import ConfigError
from ..models.classifier import Classifier, build_classifier
from ..models.classifier_storage import load_classifier
from ..runs.config import RunConfig


def load_or_build_classifier(config: RunConfig) -> Classifier:
    """The base of a run of task classification, its head chosen.

    Raises:
        BaseModelError: if it cannot be loaded.
        ConfigError: for a head that is asked for and cannot be.
        DataError: if the data's classes cannot be read.
    """
    if config.base.build is not None:
        names = config.base.build.class_names or classes_of(config)
        torch.manual_seed(config.seed)
        return build_classifier(config.base.build.vit, names)
    classifier = load_classifier(config.base)
    choose_head(config, classifier, classes_of(config))
    return classifier


def classes_of(config: RunConfig) -> tuple[str, ...]:
    """What a run's data calls its classes."""
    return load_image_set(config.data, "train").class_names


def choose_head(config: RunConfig, classifier: Classifier, names: Sequence[str]) -> None:
    """Leave the classifier its head, to be trained or not, or give it a new one for the data's classes.

    Raises:
        ConfigError: for a head of its own that it does not have, or a class map that has nowhere to lead.
    """
    wish, mapped = config.classification.head, config.data.class_map is not None
    own = bool(classifier.class_names) and (mapped or tuple(names) == classifier.class_names)
    if wish in ("train", "frozen") and not classifier.class_names:
        text = f"got {wish!r}, but base {classifier.name!r} has no head of its own; use new."
        raise ConfigError(faults=[("classification.head", text)])
    if wish in ("train", "frozen") or (wish == "auto" and own):
        classifier.head_trains = wish == "train"
        return
    if mapped:
        text = "says which of the base's classes the data's are, and a new head takes the data's own: leave it out."
        raise ConfigError(faults=[("data.class_map", text)])
    classifier.put_head(names)
    classifier.head_trains = True
