"""The figures of the page: all points, the front, bars, and no text that plotly would read as HTML."""

import json

import pytest

from superlora_diffusion.report.charts import plain, score_figure
from superlora_diffusion.report.collect import collect
from superlora_diffusion.report.compare import make_views
from superlora_diffusion.report.metrics import BY_KEY
from superlora_diffusion.report.style import family_styles

from .material import SETTINGS, make_record, write_data, write_run

# By hand from the material: lonkr, the projected square and lora-r1 are beaten by smaller settings.
FRONT = ["vector-13", "lorta-m5-r1", "lorta-r2", "lorta-r8", "dense"]


def make_figure(view, key):
    styles = family_styles(setting.family for setting in view.settings)
    texts = {number: {"adapter.rank": "<b>8"} for number in range(len(view.settings))}
    return json.loads(json.dumps(score_figure(view, BY_KEY[key], styles, texts)))


def traces(figure, kind):
    return [trace for trace in figure["data"] if trace["meta"]["kind"] == kind]


@pytest.fixture(scope="module")
def view(sweep):
    return make_views(collect([sweep]))[0]


@pytest.mark.parametrize("key", ["is_distance", "accuracy", "val_loss"])
def test_every_setting_is_a_point_with_its_bar(view, key):
    points = {}
    for trace in traces(make_figure(view, key), "family"):
        for place, number in enumerate(trace["customdata"]):
            points[number] = (trace["x"][place], trace["y"][place], trace["error_y"]["array"][place])
    estimates = [(s.parameters, s.scores[key].mean, s.scores[key].error) for s in view.settings]
    assert [points[number] for number in range(len(view.settings))] == estimates and len(estimates) == len(
        SETTINGS
    )
    assert all(error > 0 for _, _, error in estimates)


def test_the_front_is_drawn_through_its_points(view):
    figure = make_figure(view, "is_distance")
    assert [view.settings[number].name for number in figure["front"]] == FRONT
    (line,) = traces(figure, "front")
    assert line["line"]["shape"] == "hv" and line["x"] == [SETTINGS[name][1] for name in FRONT]
    assert line["y"] == pytest.approx([SETTINGS[name][2] + 0.01 for name in FRONT])


def test_a_setting_worse_than_its_base_is_not_on_the_front(tmp_path):
    data = write_data(tmp_path / "d.npz")
    write_run(tmp_path / "worse", data, record=make_record("worse", 10, 6.0))
    write_run(tmp_path / "better", data, record=make_record("better", 20, 1.0))
    view = make_views(collect([tmp_path]))[0]
    assert [view.settings[n].name for n in make_figure(view, "is_distance")["front"]] == ["better"]


def test_base_published_points_and_axes(view):
    figure = make_figure(view, "is_distance")
    (base,) = traces(figure, "base")
    assert base["y"] == [4.9, 4.9] and base["meta"]["text"] == "base tiny-base, 0 parameters: 4.9000"
    (published,) = traces(figure, "published")
    assert len(published["x"]) == 13 and published["visible"] is False
    assert not traces(make_figure(view, "fid"), "published")
    assert figure["layout"]["xaxis"]["type"] == "log" and figure["log"] and figure["canLog"]
    assert not make_figure(view, "accuracy")["log"]
    starts = [make_figure(view, key)["layout"]["yaxis"]["rangemode"] for key in ("fid", "val_loss")]
    assert starts == ["tozero", "normal"]
    assert figure["layout"]["yaxis"]["title"]["text"] == "IS distance (lower is better)"


def test_hover_says_setting_score_and_values(view):
    (trace,) = [t for t in traces(make_figure(view, "is_distance"), "family") if t["name"] == "lora"]
    assert trace["hovertext"][0].split("<br>") == [
        "<b>lora-r1</b>", "lora, 5,376 parameters", "IS distance 0.7100 ± 0.0141 over 2 seeds",
        "adapter.rank: &lt;b&gt;8",
    ]  # fmt: skip
    assert trace["hovertemplate"] == "%{hovertext}<extra></extra>"  # the text itself is no template


def test_plain_text_stays_plain():
    assert plain("<b>&lt;") == "&lt;b&gt;&amp;lt;"
    assert plain("a\n <br> b") == "a &lt;br&gt; b"
    assert plain("x" * 10, 5) == "xxxx…"
