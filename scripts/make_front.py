"""The front: finished sweeps as one table, with the ratios of parameters at equal quality, a plot and pictures.

Writes into the folder --out:
  front.csv          a row a run
  front.md           for each target a row a setting, mean and deviation over seeds; then for each LoRA rank, and for
                     95 % of dense's gain, the smallest setting of ours that is no worse
  front.png          validation loss, IS distance and FID against parameters
  front-samples.png  with --pictures: real images, the base's and some settings', the same classes and noise

Both pictures are of the first target; those of the others have its name at their end (front-usps.png). Sweeps on one
target must have been made alike (base, steps, how they are scored), or it says where they differ: another base on
the same images needs their file under another name. Start it in the folder that the sweeps were started in, so that
bases and data are found.

Examples:
  python scripts/make_front.py runs/front-base runs/front-ours --out docs/results
  python scripts/make_front.py runs/paper/sweep --target npz:usps.npz --out runs/usps-front --base-loss none
  python scripts/make_front.py runs/front-base runs/front-ours --out docs/results --pictures lora-r8,lorta-r4
  python scripts/make_front.py runs/front runs/front-usps --out docs/results --pictures auto
  python scripts/make_front.py runs/front-ours --out runs/front --family lora-k-only=superlora --pictures auto
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

# What reads sweeps and draws is imported where it is used: --help answers at once.
if TYPE_CHECKING:
    from front.gather import Gathered
    from front.ratios import Setting


def main(words: Sequence[str] | None = None) -> int:
    """The exit code: 0, or that of the error."""
    options = parse_options(words)
    from superlora_diffusion.errors import SuperLoRAError

    try:
        make_front(options)
    except SuperLoRAError as error:
        print(f"{error.label}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def make_front(options: argparse.Namespace) -> None:
    """Gather, compare, write.

    Raises:
        SuperLoRAError: for sweeps that cannot be read or compared.
    """
    from front.gather import gather
    from front.page import as_csv

    from superlora_diffusion.files import write_text

    comparisons = gather(options.sweeps, options.target, dict(options.family))
    check_base_loss(options.base_loss, comparisons)
    endings = picture_endings([gathered.target for gathered in comparisons])
    texts = [compare(*pair, options) for pair in zip(comparisons, endings, strict=True)]
    write_text(options.out / "front.csv", as_csv(comparisons))
    write_text(options.out / "front.md", "\n".join(texts))
    print("\n".join(texts))


def compare(gathered: Gathered, ending: str, options: argparse.Namespace) -> str:
    """The tables of one target; its pictures are drawn on the way."""
    from front.gather import base_scores
    from front.page import as_markdown
    from front.ratios import summarise

    base = base_scores(gathered.runs)
    loss = base_loss(gathered, options.base_loss)
    base = base if loss is None else {**base, "val_loss": loss}
    settings = summarise([run.values for run in gathered.runs])
    draw(gathered, settings, base, options, ending)
    return as_markdown(gathered, settings, base)


def picture_endings(targets: Sequence[str]) -> list[str]:
    """What ends the names of each target's pictures: nothing for the first, then its word, numbered where taken."""
    endings = [""]
    for word in map(file_word, targets[1:]):
        names = chain([f"-{word}"], (f"-{word}-{number}" for number in count(2)))
        endings.append(next(name for name in names if name not in endings))
    return endings


def file_word(target: str) -> str:
    """A target as part of a file's name: ``npz:data/usps.npz`` is ``usps``."""
    return re.sub(r"[^\w.-]+", "-", Path(target.partition(":")[2] or target).stem)


def draw(
    gathered: Gathered, settings: Sequence[Setting], base: dict, options: argparse.Namespace, ending: str
) -> None:
    """The plot, and the pictures where they are asked for."""
    from front.draw import save_front
    from front.page import protocol_text

    save_front(settings, base, protocol_text(gathered), options.out / f"front{ending}.png")
    if options.pictures is not None:
        from front.pictures import save_pictures

        names = picture_names(options.pictures, settings)
        save_pictures(gathered, names, options.out / f"front-samples{ending}.png")


def picture_names(told: str, settings: Sequence[Setting]) -> list[str]:
    """The settings whose pictures are shown; ``auto`` is LoRA rank 8 and the best of ours, as far as they were run."""
    from front.page import best_of_ours

    if told != "auto":
        return [name.strip() for name in told.split(",") if name.strip()]
    best = best_of_ours(settings)
    return [one for one in ("lora-r8", best) if one in {setting.name for setting in settings}]


def check_base_loss(told: str | float, comparisons: Sequence[Gathered]) -> None:
    """Raise ConfigError where one number is given for the bases of several targets."""
    from superlora_diffusion.errors import ConfigError

    if not isinstance(told, str) and len(comparisons) > 1:
        names = ", ".join(gathered.target for gathered in comparisons)
        raise ConfigError(
            f"got --base-loss {told:g} for several targets: {names}. Pick one with --target, or use measure or none."
        )


def base_loss(gathered: Gathered, told: str | float) -> float | None:
    """The untrained base's validation loss: as it was given, measured, or None where that cannot be done here."""
    if told != "measure":
        return None if told == "none" else told
    from superlora_diffusion.errors import SuperLoRAError
    from superlora_diffusion.training.untrained import untrained_loss

    adapters = [run.config for run in gathered.runs if run.config.method != "full"]
    try:
        return untrained_loss(adapters[0]) if adapters else None
    except SuperLoRAError as error:
        print(
            f"The base's validation loss is left out, since it cannot be measured here: {error}",
            file=sys.stderr,
        )
        return None


def parse_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    summary, examples = __doc__.split("Examples:")
    parser = argparse.ArgumentParser(
        description=summary,
        epilog="examples:" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "sweeps",
        nargs="+",
        type=Path,
        metavar="SWEEP_FOLDER",
        help="folders that superlora-diff sweep filled",
    )
    add("--out", type=Path, required=True, help="folder to write into")
    add("--target", help="the only data set to keep, as results.csv names it (default: all)")
    add("--family", type=_family, action="append", default=[], metavar="SETTING=FAMILY",
        help="baseline, lora, peer or superlora for a setting, over what its method says; repeatable")  # fmt: skip
    add("--base-loss", type=_loss, default="measure", metavar="NUMBER|measure|none",
        help="validation loss of the untrained base, for its row and dense's gain (default: measure)")  # fmt: skip
    add("--pictures", metavar="SETTING,...|auto", help="settings to draw images with, beside real ones and the base's; "
        "auto: lora-r8 and the best of ours")  # fmt: skip
    return parser.parse_intermixed_args(words)


def _family(text: str) -> tuple[str, str]:
    accepted = ("baseline", "lora", "peer", "superlora")
    name, _, family = text.rpartition("=")
    if not name or family not in accepted:
        raise argparse.ArgumentTypeError(
            f"got {text!r}; SETTING=FAMILY with one of {', '.join(accepted)} is expected"
        )
    return name, family


def _loss(text: str) -> str | float:
    if text in ("measure", "none"):
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"got {text!r}; a number, measure or none is expected")
    return value


if __name__ == "__main__":
    sys.exit(main())
