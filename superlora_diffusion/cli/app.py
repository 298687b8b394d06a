"""``superlora-diff app``."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import Device, Quiet, Verbose, set_verbosity

_HELP = """Open a page in the browser: base and adapter side by side from the same noise.

SOURCES are run folders, adapter folders, hub ids or bases to choose from; others can be typed into the page. It has a
slider for the adapter's scale, mixes two adapters with weights, and shows a sweep's scores against parameters, where a
click on a point draws from its run. Everything drawn stays in a gallery to download.

The page listens on this machine alone unless --host says otherwise, and loads nothing from a network. It needs gradio:
pip install 'superlora-diffusion[app]'

Examples:

  superlora-diff app runs/demo

  superlora-diff app runs/demo runs/other --open

  superlora-diff app --sweep runs/compare --port 7861
"""


def register(app: typer.Typer) -> None:
    app.command("app", help=_HELP)(show)


def show(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Run folders, adapter folders, hub ids or bases to choose from; the first is opened.",
            show_default=False,
        ),
    ] = None,
    base: Annotated[str | None, typer.Option(help="Another base than the adapters name.")] = None,
    sweep: Annotated[str | None, typer.Option(help="A sweep's folder, or any that holds runs.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in, without a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Show the page in this machine's browser.")
    ] = False,
    device: Device = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    set_verbosity(verbose)
    from ..app.serve import check_address, require_gradio, serve, warning_for

    require_gradio()
    check_address(host, port)
    if warning := warning_for(host):
        typer.echo(f"warning: {warning}", err=True)
    from ..app.session import Session
    from ..app.start import Start
    from ..devices import resolve_device

    session = Session(resolve_device(device), base)
    for source in (sources or [])[:1]:
        session.open(source)  # what is wrong is told here, and the page answers at once
    start = Start(tuple(sources or ()), sweep or "")
    serve(session, start, host, port, lambda text: None if quiet else typer.echo(text), open_browser)
