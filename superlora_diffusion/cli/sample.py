"""``superlora-diff sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import AsJson, BaseOfAdapter, Device, Quiet, Verbose, print_json, set_verbosity
from .completion import samplers

_HELP = """Draw images from a run, an adapter folder, a base, or several adapters at once.

Writes a labelled grid (grid.png), or single PNGs, or an npz, and samples.json with the settings.
Image i depends on the seed, on i and on its class alone, never on the batch size.

Adapters are added up: each --adapter is a run folder, an adapter folder or a hub id, with =WEIGHT behind it (1 where
nothing is said; also below 0). SOURCE is then the base, or a run or an adapter that is the first of them with weight
1; without SOURCE it is the base that all of them were trained on.

Examples:

  superlora-diff sample synthdigits-16 --out base-samples

  superlora-diff sample synthdigits-16 --classes 3,7 --count 20 --format png --out threes-and-sevens

  superlora-diff sample runs/demo --guidance-scale 3 --scale 0.5

  superlora-diff sample --adapter runs/demo=0.7 --adapter runs/other=0.3

  superlora-diff sample runs/demo --adapter runs/other=-0.5 --merge --out away-from-other

  superlora-diff sample stable-diffusion-v1-5/stable-diffusion-v1-5 --prompt "a red house" --negative-prompt blurry
"""


def register(app: typer.Typer) -> None:
    app.command("sample", help=_HELP)(sample)


def sample(
    source: Annotated[
        str | None,
        typer.Argument(
            help="A run folder, an adapter folder, an adapter's hub id, or a base.", show_default=False
        ),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="ADAPTER[=WEIGHT]", help="Add this adapter, with a weight; can be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; SOURCE/samples/sample for a run.")] = None,
    base: BaseOfAdapter = None,
    classes: Annotated[
        str | None, typer.Option(help="Class names or indices, such as 0,3,7; all by default.")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="What to draw, for a base that takes text; may be repeated.")
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What to keep away from, for a base that takes text.")
    ] = None,
    height: Annotated[int | None, typer.Option(help="Pixels; the base's own by default.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels; the base's own by default.")] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Number of images; 8 of each class, or 4 of each prompt, by default."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    sampler: Annotated[
        str | None, typer.Option(help="ddim, ddpm, dpm++2m, euler or unipc.", autocompletion=samplers)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="Classifier-free guidance; 1 is none.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images at once.")] = None,
    scale: Annotated[float | None, typer.Option(help="Scale of the update, of all adapters.")] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Add the update to the weights before sampling.")
    ] = False,
    format: Annotated[str, typer.Option(help="grid, png or npz.")] = "grid",
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    from ..sampling.request import SampleRequest

    values = {
        "sampler": sampler,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "negative_prompt": negative_prompt,
        "height": height,
        "width": width,
        "batch_size": batch_size,
    }
    request = SampleRequest(
        classes=classes,
        prompts=tuple(prompt or ()),
        count=count,
        seed=seed,
        sampling={key: value for key, value in values.items() if value is not None},
        scale=scale,
        merge=merge,
        format=format,
    )
    set_verbosity(verbose)
    from ..devices import resolve_device
    from ..progress import Reporter
    from ..runs.draw import draw, prepare_drawing

    drawing = prepare_drawing(source, base, request, resolve_device(device), out, adapter or ())
    with Reporter("sample", len(drawing.indices), "image", quiet=quiet) as reporter:
        written = draw(drawing, on_batch=reporter.advance)
    if as_json:
        print_json(written)
    elif not quiet:
        typer.echo(f"{len(drawing.indices)} images: {written['files'][0]}")
