"""``superlora-diff train``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from .common import AsJson, Device, Quiet, Verbose, print_json, set_verbosity
from .completion import config_names

_HELP = """Train an adapter, or with [bold]method=full[/bold] every weight of a network.

Other methods run alike, for comparison: method=peft (peft.tuner=lora, loha, vera, ...), method=lycoris
(lycoris.algo=lokr, ...), bitfit, norms, difffit.

The same command again goes on where it stopped; a finished run says so and does nothing.
Any value of the config can be set behind the options as key.path=value.
adapter.variant=..., peft.tuner=... and lycoris.algo=... start their section's settings anew.

With eval.every=STEPS the model is scored while it trains (metrics.jsonl), and the best step so far is kept in
RUN/best; eval.best_by=validation_loss does so without drawing images.

Examples:

  superlora-diff train --config demo

  superlora-diff train --config demo output=runs/lora adapter.variant=lora train.steps=200

  superlora-diff train --config demo output=runs/loha method=peft peft.tuner=loha peft.options.r=4

  superlora-diff train --config demo output=runs/biases method=bitfit

  superlora-diff train --config demo output=runs/watched eval.every=500 eval.best_by=fid

  superlora-diff train --config demo --dry-run
"""


def register(app: typer.Typer) -> None:
    app.command("train", help=_HELP)(train)


def train(
    config: Annotated[
        str,
        typer.Option(
            "--config", "-c", help="A YAML file, or a packaged config's name.", autocompletion=config_names
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", show_default=False)
    ] = None,
    device: Device = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print config, targets and count; train nothing.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    from ..runs.loading import load_config

    resolved = load_config(config, overrides or [])
    set_verbosity(verbose)
    if dry_run:
        _print_plan(resolved, as_json)
        return
    from ..runs.folder import RunFolder
    from ..training.loop import final_path
    from ..training.loop import train as run_training
    from ..training.scoring import read_best

    trained = run_training(resolved, device=device, quiet=quiet)
    folder = RunFolder(resolved.output).best
    best = read_best(folder)
    result = {"output": resolved.output, "result": str(final_path(resolved)), "trained": trained}
    if best is not None:
        result["best"] = {"folder": str(folder), **asdict(best)}
    if as_json:
        print_json(result)
    elif not quiet:
        what = "base" if resolved.method == "full" else "adapter"
        typer.echo(f"{'Finished' if trained else 'Already finished'}: the {what} is in {result['result']}")
        if best is not None:
            typer.echo(f"The best by {best.by} was {best}: {folder}")
        typer.echo(f"Next: {_next(resolved)}")


def _next(config) -> str:
    if config.classifies:
        return f"superlora-diff eval-acc {config.output}"
    return f"superlora-diff sample {config.output}, or superlora-diff eval-is {config.output}"


def _print_plan(config, as_json: bool) -> None:
    from ..runs.loading import to_yaml
    from ..training.plan import describe_plan
    from ..training.setup import resolve

    config = resolve(config)
    plan = describe_plan(config)
    if as_json:
        print_json({"config": config.model_dump(mode="json"), **plan})
        return
    typer.echo(to_yaml(config))
    for target in plan["targets"]:
        typer.echo(f"  {target['name']:60} {target['out_features']} x {target['in_features']}")
    if plan["targets"]:
        typer.echo(f"{len(plan['targets'])} targets with {plan['target_weights']:,} weights")
    for note in plan["notes"]:
        typer.echo(note)
    rate = f"learning rate {plan['learning_rate']:g}"
    typer.echo(f"{plan['parameters']:,} numbers train, at {rate}: {plan['trains']}")
    if plan["head_parameters"]:
        rate = f"learning rate {config.classification.head_learning_rate:g}"
        typer.echo(f"{plan['head_parameters']:,} numbers of the head train beside them, at {rate}")
