"""Train the shipped digits extractor and measure it on pictures it has not seen.

How a net of this kind is trained is in the package (`evaluation/extractor_training.py`, and
`superlora-diff extractor train` for any one set); here is what the shipped one has besides: a mixture of sets.
The net learns `mnist-mini`, `digits` and `synthdigits` together, every picture perturbed anew
(`superlora_diffusion/evaluation/perturb.py`), and a share of pictures that show no digit, whose label is "any
of the ten": without them noise and fragments would be given a class with confidence, and would score.

Example:
    python scripts/train_digits_extractor.py
    python scripts/train_digits_extractor.py --usps usps.npz --mnist-test mnist_t10k.npz
    python scripts/train_digits_extractor.py --steps 50 --output my-extractor
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Generator, Tensor

from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.loading import load_image_set
from superlora_diffusion.evaluation.digits_net import (
    INPUT_SIZE,
    NUM_CLASSES,
    PREPROCESSING,
    DigitsNet,
)
from superlora_diffusion.evaluation.extractor_training import (
    WORKING_SIZE,
    Batch,
    Pictures,
    TrainingOptions,
    as_pictures,
    draw_pictures,
    measure,
    train_net,
)
from superlora_diffusion.evaluation.extractors import ASSETS, DIGITS_WEIGHTS, load_extractor
from superlora_diffusion.evaluation.trained_extractor import half_weights
from superlora_diffusion.files import write_atomically, write_json

SHARES = {"mnist-mini": 0.4, "digits": 0.2, "synthdigits": 0.4}  # of each batch
# How sure the net is taught to be of a digit of each set. Less of print than of handwriting, so that the Inception
# Score tells the two apart: with 1 for all, coloured print scores above real handwriting.
CONFIDENCES = {"mnist-mini": 1.0, "digits": 1.0, "synthdigits": 0.8}
LEAST_CLEAN, LEAST_PERTURBED = 0.97, 0.92


def load_pictures(name: str, split: str, size: int) -> Pictures:
    """One split as RGB of the given size."""
    return as_pictures(load_image_set(DataConfig(name=name), split), size)


def draw_mixture(pools: dict[str, Pictures], batch: int) -> Callable[[Generator], Batch]:
    """Batches of all sets in the proportions SHARES, as sure as CONFIDENCES says."""
    counts = {name: round(batch * share) for name, share in SHARES.items()}
    sure = torch.cat([torch.full((count,), CONFIDENCES[name]) for name, count in counts.items()])

    def draw(generator: Generator) -> Batch:
        parts = [draw_pictures(pools[name], count, generator) for name, count in counts.items()]
        images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        return images.float() / 255, labels, sure

    return draw


def print_progress(steps: int) -> Callable[[int, float], None]:
    """A line every 250 steps."""
    started = time.time()

    def tell(step: int, loss: float) -> None:
        if step % 250 == 0 or step == steps:
            speed = step / (time.time() - started)
            print(f"step {step:5d}  loss {loss:.4f}  {speed:.1f} steps/s", flush=True)

    return tell


def measure_held_out(extractor, seed: int) -> dict[str, dict[str, float]]:
    """Clean and perturbed accuracy on the test split of each training set."""
    found = {}
    for name in SHARES:
        large, _ = load_pictures(name, "test", WORKING_SIZE)
        found[name] = measure(extractor, load_pictures(name, "test", INPUT_SIZE), large, seed)
    return found


def read_npz(path: Path) -> tuple[Tensor, Tensor, np.ndarray]:
    """Grey images (N, H, W) as uint8 (N, 3, H, W), labels (N,), and `split` (N,), 1 if there is none."""
    with np.load(path, allow_pickle=False) as stored:
        images, labels = torch.from_numpy(stored["images"]), torch.from_numpy(stored["labels"])
        split = stored["split"] if "split" in stored.files else np.ones(len(labels), dtype=np.int64)
    return images[:, None].expand(-1, 3, -1, -1).contiguous(), labels, split


def unseen_mnist(path: Path) -> Pictures:
    """The MNIST test images that are not, byte for byte, in mnist-mini (either split)."""
    images, labels, _ = read_npz(path)
    known = set()
    for split in ("train", "test"):
        known |= {image.tobytes() for image in load_image_set(DataConfig(name="mnist-mini"), split).images}
    new = torch.tensor([image[0].numpy().tobytes() not in known for image in images])
    return images[new], labels[new]


def measure_unseen(extractor, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Accuracy on the files named on the command line, none of which was trained on."""
    sets: dict[str, Pictures] = {}
    if args.usps:
        images, labels, split = read_npz(args.usps)
        test = torch.from_numpy(split == 1)
        sets["usps test"] = images[test], labels[test]
    if args.mnist_test:
        sets["mnist test, not in mnist-mini"] = unseen_mnist(args.mnist_test)
    return {name: measure(extractor, pictures, pictures[0], args.seed) for name, pictures in sets.items()}


def save(net: DigitsNet, folder: Path) -> Path:
    """The weights: 0.5 MB."""
    path = folder / DIGITS_WEIGHTS
    write_atomically(path, lambda partial: save_file(half_weights(net), partial))
    return path


def write_card(path: Path, extractor, held_out: dict, unseen: dict, args: argparse.Namespace) -> None:
    """What the extractor is, what it was trained on and how well it does."""
    card = {
        "name": extractor.name,
        "hash": extractor.hash,
        "parameters": sum(parameter.numel() for parameter in DigitsNet().parameters()),
        "preprocessing": PREPROCESSING,
        "held_out": held_out,
        "unseen": unseen,
        "training": options_of(args).described() | {"shares": SHARES, "confidences": CONFIDENCES},
        "data": {
            "mnist-mini": "MNIST by Y. LeCun, C. Cortes and C. Burges, CC BY-SA 3.0; training split",
            "digits": "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak (UCI), CC BY 4.0",
            "synthdigits": "rendered by this project from the fonts that matplotlib bundles",
        },
        "licence": "Apache-2.0 for the weights; the data keep their own",
        "made_by": "scripts/train_digits_extractor.py",
    }
    write_json(path.with_suffix(".json"), card)


def options_of(args: argparse.Namespace) -> TrainingOptions:
    return TrainingOptions(**{field.name: getattr(args, field.name) for field in fields(TrainingOptions)})


def parse_arguments() -> argparse.Namespace:
    summary, example = __doc__.split("Example:")
    parser = argparse.ArgumentParser(
        description=summary, epilog="example:" + example, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2500, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="digits a step (default: %(default)s)")
    parser.add_argument(
        "--junk", type=int, default=16, help="pictures of no digit a step (default: %(default)s)"
    )
    parser.add_argument("--lr", type=float, default=3e-3, help="highest learning rate (default: %(default)s)")
    parser.add_argument("--weight-decay", type=float, default=1e-2, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=ASSETS, help="folder (default: the package's own)")
    parser.add_argument(
        "--usps", type=Path, help="npz with images, labels, split (1 = test): measured, not learned"
    )
    parser.add_argument("--mnist-test", type=Path, help="npz with the MNIST test set: measured, not learned")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    pools = {name: load_pictures(name, "train", WORKING_SIZE) for name in SHARES}
    net = train_net(
        draw_mixture(pools, args.batch), NUM_CLASSES, options_of(args), print_progress(args.steps)
    )
    path = save(net, args.output)
    # Measured on the stored file, so that half precision is part of what is measured.
    extractor = load_extractor("digits", path=str(path))
    held_out, unseen = measure_held_out(extractor, args.seed), measure_unseen(extractor, args)
    write_card(path, extractor, held_out, unseen, args)
    print(json.dumps(held_out | unseen, indent=2))
    good = all(
        row["clean"] >= LEAST_CLEAN and row["perturbed"] >= LEAST_PERTURBED for row in held_out.values()
    )
    print(
        "good enough" if good else f"NOT good enough: wanted {LEAST_CLEAN} clean, {LEAST_PERTURBED} perturbed"
    )
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
