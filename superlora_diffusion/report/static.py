"""The chart of a view for papers: what ``evaluation.chart`` draws as PNG, SVG and PDF."""

from __future__ import annotations

from ..evaluation.chart import QUIET, Chart, Point
from .compare import View
from .metrics import Metric, suits_log_axis
from .published import PUBLISHED
from .style import family_styles


def static_chart(view: View, metric: Metric, title: str, published: bool = False) -> Chart:
    """Score against parameters by family, with bases and, if asked for the IS distance, the published points."""
    styles = family_styles(setting.family for setting in view.settings)
    values = view.values(metric)
    points = []
    for family, style in styles.items():
        look = (family, style.light, style.marker, style.ours)
        own = [(s, e) for s, e in values if s.family == family]
        points += [Point(s.name, s.parameters, e.mean, e.error, *look) for s, e in own]
    bases = view.base_values(metric)
    others = []
    if published and metric.key == "is_distance":
        look = ("published (another base)", QUIET, "x")
        others = [Point(p.setting, p.parameters, p.is_distance, None, *look) for p in PUBLISHED]
    log = suits_log_axis(metric, [e.mean for _, e in values] + [score for _, score in bases])
    caption = f"bars: deviation over seeds, or with one seed the standard error; {view.protocol}"
    return Chart(
        points, bases, metric.label, caption, title, metric.higher_is_better, log, metric.from_zero, others
    )
