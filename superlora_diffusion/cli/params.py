"""``superlora-diff params``."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from .common import AsJson, Verbose, print_json, set_verbosity, split_words
from .completion import config_names

_HELP = """Count what would train, without training; or list the settings that fit a budget.

With --config: the count as a formula with its numbers filled in, group by group. With --budget: settings of
at most so many numbers, the best use of the budget first, with what to paste behind
[bold]superlora-diff train[/bold]. Networks are built as shapes alone: no weights are read.

Examples:

  superlora-diff params --config demo

  superlora-diff params --config demo adapter.variant=lora adapter.rank=2

  superlora-diff params --config demo --model paper/base-svhn adapter.variant=lorta adapter.groups=12

  superlora-diff params --budget 5000 --targets to_q,to_v --families lora,lorta

  superlora-diff params --budget 1e4 --model some/unet/config.json --top 5 --json
"""


def register(app: typer.Typer) -> None:
    app.command("params", help=_HELP)(params)


def params(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", show_default=False)
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config", "-c", help="A YAML file, or a packaged config's name.", autocompletion=config_names
        ),
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="List settings of at most so many numbers, such as 5000.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Where to count: a base's name or folder, a config.json, a hub id, or a packaged config; "
            "by default the config's base, or the embedded one."
        ),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(help="With --budget: which weights to adapt, such as to_q,to_v or attention."),
    ] = None,
    families: Annotated[
        str | None, typer.Option(help="With --budget: methods to choose from, such as lora,lorta; all.")
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="With --budget: how many to list.", show_default="12")
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    from ..errors import ConfigError
    from ..runs.loading import load_config

    if config is None and overrides:
        raise ConfigError(
            f"got {overrides[0]!r} without --config; values of a config need one, such as demo."
        )
    resolved = None if config is None else load_config(config, overrides or [])
    set_verbosity(verbose)
    if budget is not None:
        _list(resolved, config, overrides or [], budget, model, targets, families, top or 12, as_json)
        return
    for option, value in {"targets": targets, "families": families, "top": top}.items():
        if value is not None:
            raise ConfigError(
                f"--{option} {value} goes with --budget; a config says it as adapter.KEY=VALUE."
            )
    if resolved is None:
        raise ConfigError("give --config NAME to count a run, or --budget NUMBER to list what fits.")
    _count(resolved, model, as_json)


def _count(config: Any, model: str | None, as_json: bool) -> None:
    from . import params_view

    if config.method == "superlora":
        from ..runs.counting import count_run

        found, formula = count_run(config, model)
        if as_json:
            described = {"targets": found.as_dict(), **formula.as_dict()}
            print_json({"method": config.method, **described, "learning_rate": config.learning_rate})
        else:
            params_view.print_count(config, found, formula)
        return
    from ..errors import ConfigError
    from ..training.inventory import list_trained

    if model is not None:
        raise ConfigError(f"--model {model} goes with method superlora; use base.path={model} here.")
    inventory = list_trained(config)
    if as_json:
        described = {"method": config.method, **inventory.as_dict()}
        print_json({**described, "learning_rate": config.learning_rate})
    else:
        params_view.print_inventory(config, inventory)


def _list(
    config: Any,
    name: str | None,
    overrides: list[str],
    budget: str,
    model: str | None,
    targets: str | None,
    families: str | None,
    top: int,
    as_json: bool,
) -> None:
    from ..adapters.space import FAMILIES
    from ..runs.search import Search, search
    from . import params_view

    found = search(
        Search(
            budget=_whole_number(budget),
            config=config,
            config_name=name,
            overrides=tuple(overrides),
            model=model,
            targets=None if targets is None else split_words(targets),
            families=FAMILIES if families is None else split_words(families),
        )
    )
    if as_json:
        print_json(found.as_dict(top))
    else:
        params_view.print_listing(found, top)


def _whole_number(text: str) -> int:
    """5000, 5_000, 5,000 or 5e3."""
    from ..errors import ConfigError

    plain = text.replace(",", "").replace("_", "")
    if not re.fullmatch(r"[-+]?\d+(\.\d*)?([eE]\+?\d{1,2})?", plain) or float(plain) != int(float(plain)):
        raise ConfigError(
            faults=[("budget", f"got {text!r}: a whole number such as 5000 or 1e4 is accepted.")]
        )
    return int(float(plain))
