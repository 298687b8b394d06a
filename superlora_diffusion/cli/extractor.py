"""``superlora-diff extractor``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import AsJson, Quiet, Verbose, print_json, set_verbosity
from .completion import data_names

_extractor = typer.Typer(no_args_is_help=True, help="Make extractors: what scores see images by.")

_HELP = """Train an extractor on a labelled data set.

A small net learns the set's classes from pictures that are moved, tinted, blurred and noisy as generated ones are, so
that it is not certain of what it cannot read. The folder then serves as --extractor of eval-is, or as
evaluation.extractor of a config; accuracy is told where the run's classes are the set's.
On two processor cores it takes a few minutes. The same command again finds it done.

Examples:

  superlora-diff extractor train --data mnist-mini --out extractors/mnist --steps 500

  superlora-diff extractor train --data imagefolder:pictures --out extractors/mine

  superlora-diff eval-is runs/mine --extractor extractors/mine
"""


def register(app: typer.Typer) -> None:
    app.add_typer(_extractor, name="extractor")


@_extractor.command("train", help=_HELP)
def train(
    data: Annotated[
        str,
        typer.Option(
            help="A data set by name, or imagefolder:PATH, npz:PATH.",
            autocompletion=data_names,
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The extractor's folder.", show_default=False)],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 2500,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the data set if it is not there.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    from ..data.config import DataConfig

    config = DataConfig(name=data, download=download)
    set_verbosity(verbose)
    from ..evaluation.extractor_training import TrainingOptions
    from ..evaluation.make_extractor import make_extractor
    from ..progress import Reporter

    with Reporter("train", steps, "step", quiet=quiet) as reporter:

        def told(step: int, loss: float) -> None:
            reporter.advance()
            if step % 250 == 0 or step == steps:
                reporter.note(f"loss {loss:.4f}")

        card, trained = make_extractor(
            config, out.expanduser(), TrainingOptions(steps=steps, seed=seed), told
        )
    if as_json:
        print_json({"folder": str(out), "trained": trained, **card})
    elif not quiet:
        _print(card, out, trained)


def _print(card: dict, out: Path, trained: bool) -> None:
    held_out = card["held_out"]
    typer.echo(f"{'Finished' if trained else 'Already finished'}: the extractor {card['hash']} is in {out}")
    typer.echo(
        f"Right on {held_out['images']:,} held-out images: {held_out['clean']:.1%} as they are, "
        f"{held_out['perturbed']:.1%} perturbed ({len(card['class_names'])} classes)"
    )
    if held_out["clean"] < 0.9:
        typer.echo("note: it is often wrong, so take FID and KID by it, not the Inception Score or accuracy.")
    typer.echo(f"Next: superlora-diff eval-is RUN --extractor {out}")
