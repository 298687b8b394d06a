"""The page: one HTML file that holds its data, pictures, charts and script, and asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from .charts import score_figure
from .collect import Curve, Run
from .compare import Setting, View
from .describe import changed_values, shared_values, values_of
from .pictures import load_grids, load_real_images
from .style import family_styles

_SCRIPTS = ("chart.js", "table.js", "best.js", "panel.js", "main.js")
_CURVE_POINTS = 200


def render_page(
    title: str, views: Sequence[View], runs: Sequence[Run], published: bool = False, score: str | None = None
) -> str:
    """The whole page.

    Args:
        title: its heading.
        views: what was measured alike, a view each; the first is shown.
        runs: all runs, those without a place in a view included.
        published: whether the published points are shown from the start.
        score: the one shown first.
    """
    environment = Environment(
        loader=PackageLoader("superlora_diffusion.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    script = "\n".join(_read(name) for name in _SCRIPTS)
    plotly = get_plotlyjs()
    return environment.get_template("page.html.j2").render(
        title=title,
        policy=_policy(plotly, script),
        style=Markup(_read("page.css")),
        plotly=Markup(plotly),
        script=Markup(script),
        data=page_data(views, runs, published, score),
    )


def _read(name: str) -> str:
    return resources.files("superlora_diffusion.report").joinpath("templates", name).read_text("utf-8")


def _policy(*scripts: str) -> str:
    """A Content-Security-Policy under which these two scripts run, and nothing else: no other script, no network.

    plotly writes styles of its own, hence 'unsafe-inline' for styles; blob: is its picture for download.
    """
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def page_data(
    views: Sequence[View], runs: Sequence[Run], published: bool = False, score: str | None = None
) -> dict[str, Any]:
    """Everything the script shows, as JSON values. Texts are plain; only chart texts are written for plotly."""
    places = {run.path: place for place, run in enumerate(runs)}
    keys, real = load_real_images(runs)
    grids = load_grids(runs)
    styles = family_styles(setting.family for view in views for setting in view.settings)
    return {
        "published": published,
        "score": score,
        "families": [
            {"name": name, "glyph": style.glyph, "light": style.light, "dark": style.dark, "ours": style.ours}
            for name, style in styles.items()
        ],
        "views": [_view_data(view, styles, places) for view in views],
        "runs": [
            {**_run_data(run), "grid": vars(grids[run.path]), "real": keys.get(run.path)} for run in runs
        ],
        "real": {key: vars(picture) for key, picture in real.items()},
    }


def _view_data(view: View, styles: dict, places: dict) -> dict[str, Any]:
    values = [values_of(setting.runs) for setting in view.settings]
    shared = shared_values(values)
    own = {
        number: {name: value for name, value in mine.items() if name not in shared}
        for number, mine in enumerate(values)
    }
    return {
        "protocol": view.protocol,
        "notes": list(view.notes),
        "shared": shared,
        "metrics": [vars(metric) for metric in view.metrics()],
        "figures": {metric.key: score_figure(view, metric, styles, own) for metric in view.metrics()},
        "settings": [_setting_data(setting, places) for setting in view.settings],
        "leftOut": [
            {"name": run.setting, "seed": run.seed, "family": run.family, "target": run.target, "why": why,
             "parameters": run.parameters, "runs": [places[run.path]]}
            for run, why in view.left_out
        ],
    }  # fmt: skip


def _setting_data(setting: Setting, places: dict) -> dict[str, Any]:
    rates = dict.fromkeys(run.config.learning_rate for run in setting.runs)
    return {
        "name": setting.name,
        "family": setting.family,
        "target": setting.target,
        "parameters": setting.parameters,
        "seeds": len(setting.runs),
        "learningRate": ", ".join(f"{rate:g}" for rate in rates),
        "scores": {key: vars(estimate) for key, estimate in setting.scores.items()},
        "runs": [places[run.path] for run in setting.runs],
    }


def _run_data(run: Run) -> dict[str, Any]:
    return {
        "path": str(run.path),
        "seed": run.seed,
        "status": run.status,
        "training": thin(run.training),
        "validation": thin(run.validation),
        "race": [list(pair) for pair in run.race],
        "command": run.command,
        "values": changed_values(run.config) if run.config else {},
    }


def thin(curve: Curve) -> list[list[float]]:
    """At most some 200 points of a curve, evenly taken, its last one always there."""
    every = -(-len(curve) // _CURVE_POINTS) or 1
    kept = curve[::-1][::every][::-1]
    return [list(point) for point in kept]
