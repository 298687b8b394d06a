"""The charts of the page, made by plotly: one figure a score. Colours of the page are filled in by its script."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from .compare import Estimate, Setting, View
from .describe import Values
from .metrics import Metric, suits_log_axis
from .published import PUBLISHED
from .style import Style

_SHOWN_VALUES = 12
_LONGEST = 60


def plain(text: object, longest: int | None = None) -> str:
    """Text that plotly shows as it is: plotly reads some HTML in texts and decodes these entities alone."""
    text = " ".join(str(text).split())
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    return html.escape(text, quote=False)


def score_figure(
    view: View, metric: Metric, styles: Mapping[str, Style], texts: Mapping[int, Values]
) -> dict[str, Any]:
    """Score against parameters as plotly JSON, with what the script needs to know.

    Traces in order: the front, a line a base, a trace a family, and for the IS distance the published points. A trace's
    ``meta`` says its kind; a point's ``customdata`` is the number of its setting in the view.

    Args:
        view: what was measured alike.
        metric: which score.
        styles: by family.
        texts: by number of the setting, the values that its hover shows.
    """
    points = view.values(metric)
    numbers = {id(setting): number for number, setting in enumerate(view.settings)}
    bases, front = view.base_values(metric), view.front(metric)
    ends = _range([setting.parameters for setting, _ in points])
    traces = [_front_trace(front)]
    traces += [_base_trace(name, score, ends, metric) for name, score in bases]
    for family, style in styles.items():
        members = [(setting, e) for setting, e in points if setting.family == family]
        if members:
            traces.append(_family_trace(family, style, members, metric, numbers, texts))
    if metric.key == "is_distance":
        traces.append(_published_trace())
    values = [e.mean for _, e in points] + [score for _, score in bases]
    figure = go.Figure(traces, _layout(metric, ends))
    return {
        **figure.to_plotly_json(),
        "front": [numbers[id(setting)] for setting, _ in front],
        "canLog": bool(values) and min(values) > 0,
        "wide": bool(values) and max(values) > 5 * min(values) > 0,
        "log": suits_log_axis(metric, values),
    }


def _front_trace(front: Sequence[tuple[Setting, Estimate]]) -> go.Scatter:
    return go.Scatter(
        x=[setting.parameters for setting, _ in front],
        y=[e.mean for _, e in front],
        mode="lines",
        line={"shape": "hv", "width": 2},
        hoverinfo="skip",
        name="Pareto front",
        meta={"kind": "front"},
    )


def _base_trace(name: str, score: float, ends: tuple[float, float], metric: Metric) -> go.Scatter:
    text = f"base {plain(name, 24)}, 0 parameters: {metric.write(score)}"
    return go.Scatter(
        x=[ends[0], ends[1]],
        y=[score, score],
        mode="lines",
        line={"dash": "dash", "width": 2},
        hoverinfo="skip",
        name="base",
        meta={"kind": "base", "text": text},
    )


def _family_trace(
    family: str, style: Style, members: Sequence, metric: Metric, numbers: Mapping, texts: Mapping
) -> go.Scatter:
    errors = [e.error or 0 for _, e in members]
    return go.Scatter(
        x=[setting.parameters for setting, _ in members],
        y=[e.mean for _, e in members],
        error_y={"type": "data", "array": errors, "thickness": 1.2, "width": 4, "visible": any(errors)},
        mode="markers",
        marker={"symbol": style.symbol, "size": 11, "line": {"width": 2 if not style.ours else 1}},
        customdata=[numbers[id(setting)] for setting, _ in members],
        hovertext=[hover_text(s, e, metric, texts[numbers[id(s)]]) for s, e in members],
        hovertemplate="%{hovertext}<extra></extra>",
        name=plain(family),
        meta={"kind": "family", "family": family, "light": style.light, "dark": style.dark},
    )


def _published_trace() -> go.Scatter:
    texts = [
        f"<b>published</b> (arXiv 2403.11887; another base and data)<br>{plain(point.setting)}<br>"
        f"{point.parameters:,} parameters<br>IS distance {point.is_distance:.4f}"
        for point in PUBLISHED
    ]
    return go.Scatter(
        x=[point.parameters for point in PUBLISHED],
        y=[point.is_distance for point in PUBLISHED],
        mode="markers",
        marker={"symbol": "x-thin", "size": 9, "line": {"width": 2}},
        hovertext=texts,
        hovertemplate="%{hovertext}<extra></extra>",
        name="published",
        visible=False,
        meta={"kind": "published"},
    )


def hover_text(setting: Setting, e: Estimate, metric: Metric, values: Values) -> str:
    """The setting in plotly's text: its name in bold, its count, its score with bar, its values."""
    bar = "" if e.error is None else f" ± {metric.write(e.error)}"
    over = f" over {e.count} seeds" if e.count > 1 else ""
    lines = [
        f"<b>{plain(setting.name, _LONGEST)}</b>",
        f"{plain(setting.family)}, {setting.parameters:,} parameters",
        f"{metric.short} {metric.write(e.mean)}{bar}{over}",
    ]
    shown = list(values.items())[:_SHOWN_VALUES]
    lines += [plain(f"{name}: {value}", _LONGEST) for name, value in shown]
    if len(values) > len(shown):
        lines.append(f"and {len(values) - len(shown)} more values")
    return "<br>".join(lines)


def _range(counts: Sequence[int]) -> tuple[float, float]:
    """Ends of the axis, with room around the points."""
    return (min(counts, default=100) / 2, max(counts, default=1000) * 2)


def _layout(metric: Metric, ends: tuple[float, float]) -> dict[str, Any]:
    better = "higher" if metric.higher_is_better else "lower"
    return {
        "xaxis": {
            "type": "log",
            "range": [math.log10(end) for end in ends],
            "title": {"text": "trained parameters"},
            "tickformat": "~s",
            "dtick": 1 if ends[1] / ends[0] > 100 else "D2",
        },
        "yaxis": {
            "title": {"text": f"{metric.short} ({better} is better)"},
            "rangemode": "tozero" if metric.from_zero else "normal",
            "tickformat": "~g",
        },
        "showlegend": False,
        "hovermode": "closest",
        "template": "none",
        "margin": {"l": 64, "r": 16, "t": 34, "b": 52},
    }
