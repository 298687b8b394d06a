"""``superlora-diff eval-is``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .common import AsJson, Device, Quiet, Verbose, print_json, set_verbosity
from .completion import data_names, extractors, samplers

_HELP = """Score runs: Inception Score, its distance to the real images' score, FID, KID, precision, recall, accuracy.

Draws images of each run's base and adapter with classes in the data's proportions and scores them and the
real test images alike. Scores go to scores.json in each run folder; what is scored already is not drawn
again. An adapter on the hub is scored as its run was, into scores-NAME here.

Examples:

  superlora-diff eval-is runs/demo

  superlora-diff eval-is runs/demo --images 500 --splits 5 --steps 10

  superlora-diff eval-is runs/demo --metrics is,fid --only adapter

  superlora-diff eval-is runs/demo --json
"""

_EXTRACTOR = "auto, digits, inception, dinov2, clip, or a folder that `extractor train` wrote."
_EXTRACTOR_PATH = "Weights of the extractor; for dinov2 and clip a folder or a hub id."


def register(app: typer.Typer) -> None:
    app.command("eval-is", help=_HELP)(eval_is)


def eval_is(
    runs: Annotated[
        list[str], typer.Argument(help="Finished run folders, or hub ids of adapters.", show_default=False)
    ],
    images: Annotated[int | None, typer.Option(help="Generated images (and real ones).")] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Which scores: is,fid,kid,prc,accuracy; all by default.")
    ] = None,
    only: Annotated[
        Literal["base", "adapter"] | None, typer.Option(help="Score only the base, or only what was trained.")
    ] = None,
    splits: Annotated[int | None, typer.Option(help="Parts for the score's mean and deviation.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the images and of the shuffle.")] = None,
    extractor: Annotated[
        str | None,
        typer.Option(help=_EXTRACTOR, autocompletion=extractors),
    ] = None,
    extractor_path: Annotated[str | None, typer.Option(help=_EXTRACTOR_PATH)] = None,
    real: Annotated[
        str | None,
        typer.Option(
            help="Data set whose test split is compared with; the run's own.", autocompletion=data_names
        ),
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="ddim, ddpm, dpm++2m, euler or unipc.", autocompletion=samplers)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="Classifier-free guidance; 1 is none.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="The plot; is-distance.png in the (first) run folder.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Score also what is scored already.")] = False,
    save_images: Annotated[
        bool, typer.Option("--save-images", help="Keep the scored images: samples/scored-*.npz of the run.")
    ] = False,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    from ..devices import resolve_device
    from ..errors import EvaluationError
    from ..evaluation.evaluate import Request, evaluate_run, scores_folder
    from ..evaluation.plot import plot_front
    from ..evaluation.processes import is_main, join_launched
    from ..progress import Reporter

    set_verbosity(verbose)
    place = join_launched(resolve_device(device))
    values = {"sampler": sampler, "steps": steps, "guidance_scale": guidance_scale}
    request = Request(
        images=images,
        splits=splits,
        seed=seed,
        extractor=extractor,
        extractor_path=extractor_path,
        real=real,
        sampling={key: value for key, value in values.items() if value is not None},
        device=place,
        again=again,
        metrics=metrics,
        only=only,
        save_images=save_images,
    )
    records: list = []
    for run in runs:
        with Reporter(f"draw {Path(run).name}", 0, "image", quiet=quiet or not is_main()) as reporter:
            records += evaluate_run(run, request, records, reporter.restart, reporter.advance)
    if not is_main():
        return
    records = [record for i, record in enumerate(records) if record not in records[:i]]
    places = [scores_folder(run) for run in runs]
    plot = plot or places[0] / "is-distance.png"
    _print(records, places, as_json, save_images)
    if any(record.is_distance is None for record in records):
        typer.echo("No plot: it shows the IS distance, which not every model has (--metrics is).", err=True)
        return
    try:
        plot_front(records, plot)
    except EvaluationError as error:  # runs measured in different ways: the table has said how
        typer.echo(f"No plot: {error}", err=True)
        return
    if not as_json:
        typer.echo(f"Plot:   {plot}")


def _print(records: list, places: list[Path], as_json: bool, saved: bool) -> None:
    if as_json:
        print_json([record.model_dump(mode="json") for record in records])
        return
    from rich.console import Console

    from ..evaluation.table import scores_table

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # a log has no width of its own, and the names need some
    console.print(scores_table(records))
    for place in places:
        typer.echo(f"Scores: {place / 'scores.json'}")
        if saved:
            typer.echo(f"Images: {place / 'samples' / 'scored-*.npz'}")
