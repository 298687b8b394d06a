"""``superlora-diff push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import AdapterOrRun, AsJson, Quiet, print_json

_HELP = """Publish an adapter on the Hugging Face Hub: its files, a model card, samples and scores, in one commit.

The repository is made if it is not there. Checkpoints, optimiser state and logs are never uploaded. The login is
the hub's own: hf auth login. What is published is loaded again by its id: superlora-diff sample user/name, or
load_adapter(network, "user/name").

Examples:

  superlora-diff push runs/demo user/demo --dry-run --out demo-on-the-hub

  superlora-diff push runs/demo/adapter user/demo --dry-run --out adapter-alone --license apache-2.0 --json

  superlora-diff push runs/demo user/demo --private --license apache-2.0
"""


def register(app: typer.Typer) -> None:
    app.command("push", help=_HELP)(push)


def push(
    source: AdapterOrRun,
    repo_id: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="The repository on the hub.", show_default=False)
    ],
    private: Annotated[bool, typer.Option("--private", help="Make the new repository private.")] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch, made if it is not there; main by default.")
    ] = None,
    message: Annotated[str | None, typer.Option(help="Message of the commit.")] = None,
    license: Annotated[str | None, typer.Option(help="Licence of the adapter, such as apache-2.0.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Write what would be uploaded into a folder, and upload nothing."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The dry run's folder; push-NAME here by default.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    from ..errors import ConfigError
    from ..publishing import push as publishing

    request = publishing.PushRequest(
        repo_id=repo_id, private=private, revision=revision, message=message, license=license
    )
    if out is not None and not dry_run:
        raise ConfigError(f"--out {out} is where a dry run writes; add --dry-run, or leave it out.")
    if dry_run:
        out = out or Path(f"push-{repo_id.split('/')[-1]}")
        pushed = publishing.dry_run(source, request, out)
    else:
        pushed = publishing.push(source, request, _reporter(quiet or as_json))
    if as_json:
        print_json({"repo_id": repo_id, "uploaded": not dry_run, **pushed._asdict()})
        return
    if not quiet:
        for name, size in pushed.files.items():
            typer.echo(f"{size:>12,} bytes  {name}")
    typer.echo(f"{'Would be uploaded' if dry_run else 'Uploaded'}: {pushed.place}")
    if license is None and not quiet:
        typer.echo(
            "No licence is given: --license names one, so that others know what they may do.", err=True
        )


def _reporter(silent: bool):
    """Prints each step to standard error; the hub's own bars go with it."""
    from huggingface_hub.utils import disable_progress_bars

    if not silent:
        return lambda text: typer.echo(text, err=True)
    disable_progress_bars()
    return lambda text: None
