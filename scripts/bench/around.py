"""What a user waits for beside network calls: data, validation, averages, logging, checkpoints, start-up, scoring.

Shares are of the time of a run of the demo's configuration, worked out from the cost of each call and the
configuration's intervals; start-up is against importing what sampling needs from torch and diffusers.

Run: python scripts/bench/around.py [--quick]
"""

from __future__ import annotations

import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from common import Record, finish, parser, ratio, start

IMPORTS = "import torch; from diffusers import UNet2DModel, DDPMScheduler"
LAZY = "import torch, diffusers"


def main() -> None:
    options = parser(__doc__).parse_args()
    device = start(options)
    with tempfile.TemporaryDirectory() as folder:
        records = [*training(Path(folder), options, device), *scoring(Path(folder), options, device)]
        records += starting(Path(folder), options)
    records.append(rendering(options))
    finish("Everything around it", records, options)


class Clock:
    """Seconds of the calls of wrapped functions, by name."""

    def __init__(self) -> None:
        self.calls: dict[str, list[float]] = defaultdict(list)

    def wrap(self, owner: object, attribute: str, name: str) -> None:
        """Time the calls of owner.attribute under ``name``."""
        inner = getattr(owner, attribute)

        def timed(*args, **kwargs):
            begun = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self.calls[name].append(time.perf_counter() - begun)

        setattr(owner, attribute, timed)

    def one(self, name: str) -> float:
        """The usual cost of a call."""
        return statistics.median(self.calls[name])


def training(folder: Path, options, device) -> list[Record]:
    """Shares of a run: preparing batches, and all that is measured and written."""
    from diffusers.training_utils import EMAModel

    from superlora_diffusion.runs.loading import load_config
    from superlora_diffusion.training import loop

    demo = load_config("demo")
    every = max(1, (20 if options.quick else 200) // 2)
    changes = [f"output={folder / 'run'}", f"train.steps={2 * every}", "preview.every=null"]
    changes += [f"{name}.every={every}" for name in ("validation", "checkpoint", "log")]
    clock = Clock()
    for owner, attribute in ((loop.Trainer, "_optimise"), (loop.Trainer, "_loss"), (loop, "denoising_loss"),
                             (loop.Trainer, "_validate"), (loop.Trainer, "_checkpoint"), (loop.Trainer, "_log"),
                             (EMAModel, "step")):  # fmt: skip
        clock.wrap(owner, attribute, attribute)
    loop.train(load_config("demo", changes), str(device), quiet=True)
    step = clock.one("_optimise")
    measuring = (
        clock.one("_validate") / demo.validation.every
        + clock.one("_checkpoint") / demo.checkpoint.every
        + clock.one("_log") / demo.log.every
    )
    whole = step + measuring
    return [
        Record("around", "batches prepared", "training", (clock.one("_loss") - clock.one("denoising_loss")) / whole,
               0.0, 0.01, "share"),
        Record("around", "validation, averages, logging, checkpoints", "training",
               (measuring + clock.one("step")) / whole, 0.0, 0.03, "share"),
    ]  # fmt: skip


def scoring(folder: Path, options, device) -> list[Record]:
    """The share of eval-is that is spent in calls of the network."""
    from diffusers import UNet2DModel

    from superlora_diffusion.evaluation.evaluate import Request, evaluate_run

    clock = Clock()
    clock.wrap(UNet2DModel, "forward", "network")
    images, steps = (100, 5) if options.quick else (500, 20)
    begun = time.perf_counter()
    request = Request(images=images, sampling={"steps": steps}, device=device)
    evaluate_run(str(folder / "run"), request, [])
    share = 1 - sum(clock.calls["network"]) / (time.perf_counter() - begun)
    return [Record("around", f"eval-is beside network calls ({images} images, {steps} steps)", "eval-is", share, 0.0,
                   0.05, "share")]  # fmt: skip


def starting(folder: Path, options) -> list[Record]:
    """--help in seconds; one image from a cold start against the imports."""
    rounds = 1 if options.quick else 7
    program = [sys.executable, "-c", "from superlora_diffusion.cli.main import main; main()"]
    sample = [*program, "sample", "synthdigits-16", "--count", "1", "--out", str(folder / "one")]
    seconds = defaultdict(list)
    for _ in range(rounds):
        for name, command in (("imports", [sys.executable, "-c", IMPORTS]), ("lazy", [sys.executable, "-c", LAZY]),
                              ("help", [*program, "--help"]), ("sample", sample)):  # fmt: skip
            begun = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - begun)
    return [
        Record("around", "--help", "half a second", *ratio(seconds["help"], [0.5] * rounds), 1.0),
        Record("around", "sample, one image, cold", IMPORTS, *ratio(seconds["sample"], seconds["imports"]), 1.5),
        Record("around", "sample, one image, cold", f"{LAZY} (which loads no network class)",
               *ratio(seconds["sample"], seconds["lazy"]), 1.5),
    ]  # fmt: skip


def rendering(options) -> Record:
    """20,000 synthdigits on one core, against 20 seconds."""
    from superlora_diffusion.data.config import SynthDigitsConfig
    from superlora_diffusion.data.synthdigits import render_images

    count = 1000 if options.quick else 20_000
    with contextlib.redirect_stdout(io.StringIO()):
        render_images(SynthDigitsConfig(), "test", np.arange(100))
        begun = time.process_time()
        for first in range(0, count, 500):
            render_images(SynthDigitsConfig(), "train", np.arange(first, first + 500))
    taken = (time.process_time() - begun) * 20_000 / count
    return Record("around", "20,000 synthdigits rendered", "20 seconds", taken / 20, 0.0, 1.0)


if __name__ == "__main__":
    main()
