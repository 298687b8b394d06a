"""Feature extractors by name: images in, features (for FID) and logits (for the Inception Score) out.

- `digits` is ours and ships with the package.
- `inception` is torch-fidelity's own port of the original network, whose weights (91 MB) are looked up in its cache,
  read from a given path, or fetched.
- `dinov2` and `clip` come by transformers; they have features and no classes.
- A folder that `superlora-diff extractor train` wrote is an extractor, too.
- `auto` goes by the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from superlora_diffusion.adapters.fingerprint import exact_digest
from superlora_diffusion.errors import ConfigError, EvaluationError, nearest
from superlora_diffusion.evaluation import digits_net
from superlora_diffusion.evaluation.trained_extractor import read_trained
from superlora_diffusion.runs.config import EXTRACTORS

# Ten-class digit data, on which an ImageNet classifier's classes mean nothing.
DIGIT_DATA = ("mnist-mini", "mnist", "usps", "svhn", "digits", "synthdigits")
ASSETS = Path(__file__).parent / "assets"
DIGITS_WEIGHTS = "digits_extractor.safetensors"
INCEPTION_FEATURES, INCEPTION_CLASSES = 2048, 1008


@dataclass(frozen=True)
class Extractor:
    """A network with what must be said beside every score it gives."""

    name: str
    hash: str
    """First 12 hex digits of sha256 over the weights and the preprocessing."""
    num_features: int
    num_classes: int
    """0 where it has no classes: no Inception Score, no accuracy."""
    predicts_labels: bool
    """Whether logit k is class k of the data, so that accuracy means something."""
    network: nn.Module
    """uint8 (B, 3, H, W) on `device` -> features (B, num_features), logits (B, num_classes)."""
    device: torch.device

    def features(self, images: Tensor | np.ndarray, batch_size: int = 256) -> tuple[Tensor, Tensor]:
        """uint8 (N, 3, H, W) -> features fp32 (N, num_features), logits fp32 (N, num_classes), on the CPU.

        Raises:
            EvaluationError: images that are not uint8 RGB, none at all, or a batch size below 1.
        """
        images = torch.as_tensor(images)
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise EvaluationError(
                f"the extractor {self.name!r} got {images.dtype} images of shape {tuple(images.shape)}; "
                "it takes at least one uint8 RGB image, (N, 3, H, W)."
            )
        if batch_size < 1:
            raise EvaluationError(f"batch_size is {batch_size}, expected 1 or more.")
        with torch.inference_mode():
            pairs = [self.network(chunk.to(self.device)) for chunk in images.split(batch_size)]
        features, logits = zip(*pairs, strict=True)
        # Joined outside inference mode, so that callers may use the result anywhere.
        return torch.cat(features).float().cpu(), torch.cat(logits).float().cpu()


def load_extractor(
    name: str = "auto",
    path: str | None = None,
    data_name: str = "",
    device: str | torch.device = "cpu",
    class_names: Sequence[str] | None = None,
) -> Extractor:
    """The extractor ``name``: one of EXTRACTORS, or a folder written by ``superlora-diff extractor train``.

    Args:
        path: weights of its kind in place of the usual ones; for dinov2 and clip a folder or a hub id.
        data_name: the data set's, for ``auto``.
        class_names: the data's classes; a trained extractor of other classes tells no accuracy.

    Raises:
        ConfigError: an unknown name.
        EvaluationError: missing or unreadable weights.
    """
    if name == "auto":
        name = choose_extractor(data_name)
    device = torch.device(device)
    if name in _MAKERS:
        return _MAKERS[name](path, device)
    if not Path(name).expanduser().is_dir():
        raise ConfigError(
            f"extractor: {name!r} is not known; expected one of {', '.join(EXTRACTORS)}, or a folder that "
            f"superlora-diff extractor train wrote.{nearest(name, EXTRACTORS)}"
        )
    if path is not None:
        raise ConfigError(f"extractor: the folder {name} brings its weights; leave out the path {path}.")
    return _trained(Path(name).expanduser(), device, class_names)


def choose_extractor(data_name: str) -> str:
    """`digits` for ten-class digit data, `inception` for everything else."""
    return "digits" if data_name in DIGIT_DATA else "inception"


def _digits(path: str | None, device: torch.device) -> Extractor:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = Path(path) if path else ASSETS / DIGITS_WEIGHTS
    net = digits_net.DigitsNet()
    try:
        stored = load_file(file)
        net.load_state_dict(stored)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise EvaluationError(
            f"{file}: no weights of the digits extractor could be read ({_first_line(error)}). Give a file "
            "written by scripts/train_digits_extractor.py, or no path, to use the one that ships."
        ) from error
    return Extractor(
        name="digits",
        hash=exact_digest(stored, digits_net.PREPROCESSING),
        num_features=digits_net.NUM_FEATURES,
        num_classes=digits_net.NUM_CLASSES,
        predicts_labels=True,
        network=_freeze(net, device),
        device=device,
    )


def _trained(folder: Path, device: torch.device, class_names: Sequence[str] | None) -> Extractor:
    card, stored = read_trained(folder)
    own = tuple(card["class_names"])
    net = digits_net.DigitsNet(len(own))
    net.load_state_dict(stored)
    return Extractor(
        name=card["name"],
        hash=exact_digest(stored, digits_net.PREPROCESSING),
        num_features=digits_net.NUM_FEATURES,
        num_classes=len(own),
        predicts_labels=class_names is not None and tuple(class_names) == own,
        network=_freeze(net, device),
        device=device,
    )


def _inception(path: str | None, device: torch.device) -> Extractor:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    from superlora_diffusion.evaluation.inception_weights import find_inception_weights

    file = find_inception_weights(path)
    try:
        # torch-fidelity unpickles whatever it is given; this refuses anything but tensors first.
        torch.load(file, map_location="cpu", weights_only=True)
        net = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(file)
        )
    except Exception as error:  # a damaged file raises a different type for each kind of damage
        raise EvaluationError(
            f"{file}: these are no Inception weights that torch-fidelity can read ({_first_line(error)}). "
            "Give the file it publishes (weights-inception-2015-12-05-6726825d.pth), or delete a damaged one."
        ) from error
    return Extractor(
        name="inception",
        hash=exact_digest(net.state_dict(), "torch-fidelity inception-v3-compat, 2048, logits_unbiased"),
        num_features=INCEPTION_FEATURES,
        num_classes=INCEPTION_CLASSES,
        predicts_labels=False,
        network=_freeze(net, device),
        device=device,
    )


def _freeze(net: nn.Module, device: torch.device) -> nn.Module:
    return net.requires_grad_(False).eval().to(device)


def _transformer(kind: str) -> Callable[[str | None, torch.device], Extractor]:
    def make(path: str | None, device: torch.device) -> Extractor:
        from superlora_diffusion.evaluation.transformer_extractors import load_transformer

        net, width = load_transformer(kind, path)
        return Extractor(
            name=kind,
            hash=exact_digest(net.model.state_dict(), net.preprocessing),
            num_features=width,
            num_classes=0,
            predicts_labels=False,
            network=_freeze(net, device),
            device=device,
        )

    return make


_MAKERS = {
    "digits": _digits,
    "inception": _inception,
    "dinov2": _transformer("dinov2"),
    "clip": _transformer("clip"),
}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
