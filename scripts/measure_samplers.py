"""Measure samplers on a base: FID, Inception Score and accuracy by sampler, number of steps and guidance scale.

The defaults of `sampling` come from this table (docs/results.md).

Examples:
  python scripts/measure_samplers.py --out runs/samplers.md
  python scripts/measure_samplers.py --base synthdigits-16 --data synthdigits --images 500 --steps 10,20 --guidance 1.5
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np

from superlora_diffusion.data.config import DataConfig
from superlora_diffusion.data.loading import load_image_set
from superlora_diffusion.data.preparation import prepare
from superlora_diffusion.devices import resolve_device
from superlora_diffusion.evaluation.extractors import load_extractor
from superlora_diffusion.evaluation.scores import compute_scores
from superlora_diffusion.files import write_text
from superlora_diffusion.runs.source import open_source
from superlora_diffusion.sampling.config import SamplingSettings
from superlora_diffusion.sampling.producer import generate


def main() -> None:
    options = parse_options()
    device = resolve_device(options.device)
    source = open_source(options.base)
    source.base.network.to(device)
    data = load_image_set(DataConfig(name=options.data), "test")
    real = prepare(data, source.base.size, 3, source.base.classes)
    extractor = load_extractor("auto", data_name=options.data, device=device)
    classes = np.arange(options.images) % source.base.classes
    rows = ["| sampler | steps | guidance | FID | IS | IS of real | accuracy |", "| --- " * 7 + "|"]
    cells = itertools.product(
        options.samplers.split(","), options.steps.split(","), options.guidance.split(",")
    )
    for sampler, steps, guidance in cells:
        settings = SamplingSettings(sampler=sampler, steps=int(steps), guidance_scale=float(guidance))
        images = generate(source.base, classes, len(classes), settings)
        scores = compute_scores(images, classes, real.images, real.labels, extractor, options.splits)
        numbers = f"{scores.fid:.2f} | {scores.is_mean:.3f} | {scores.is_real:.3f} | {scores.accuracy:.1%}"
        rows.append(f"| {sampler} | {steps} | {guidance} | {numbers} |")
        print(rows[-1], flush=True)
    protocol = (
        f"N {scores.n}, {scores.splits} splits, seed 0, extractor {scores.extractor} {scores.extractor_hash}"
    )
    if options.out:
        write_text(options.out, "\n".join([*rows, "", protocol, ""]))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="synthdigits-16", help="a base, a run folder or an adapter folder")
    parser.add_argument("--data", default="synthdigits", help="data set whose test split is compared with")
    parser.add_argument("--samplers", default="ddpm,ddim,dpm++2m,euler")
    parser.add_argument("--steps", default="10,20,50")
    parser.add_argument("--guidance", default="1.5")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", help="Markdown file to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
