"""The drawn chart: what is on the front, that names are literal, and the formats."""

import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from superlora_diffusion.errors import EvaluationError
from superlora_diffusion.evaluation.chart import Chart, Point, draw_chart, front_of, save_chart

POINTS = (
    Point("tiny", 10, 2.0, 0.1, "vector", "#0072B2"),
    Point("$x^", 100, 0.9, None, "lo<b>ra", "#D55E00", "s", False),
    Point("worse", 200, 1.5, 0.2, "lo<b>ra", "#D55E00", "s", False),
    Point("large", 10_000, 0.3, 0.1, "vector", "#0072B2"),
)


def make_chart(**changes):
    values = {"points": POINTS, "bases": [("base", 1.2)], "score_label": "distance", "caption": "N $1_"}
    return Chart(**(values | changes))


def drawn_front(chart):
    lines = [line for line in draw_chart(chart).axes[0].get_lines() if line.get_gid() == "pareto-front"]
    return [tuple(map(float, point)) for line in lines for point in line.get_xydata()]


def test_the_front_passes_through_what_nothing_beats_the_base_included():
    assert drawn_front(make_chart()) == [(100, 0.9), (10_000, 0.3)]  # "tiny" is worse than no training at all
    assert drawn_front(make_chart(bases=[])) == [(10, 2.0), (100, 0.9), (10_000, 0.3)]
    assert [point.name for point in front_of(make_chart(bases=[], higher_is_better=True))] == ["tiny"]
    others = (Point("elsewhere", 5, 0.01),)
    assert drawn_front(make_chart(others=others)) == [(100, 0.9), (10_000, 0.3)]


@pytest.mark.parametrize("log_score", [False, True])
def test_svg_holds_the_names_as_they_are(tmp_path, log_score):
    save_chart(make_chart(log_score=log_score), tmp_path / "a.svg")
    texts = [node.text for node in ElementTree.parse(tmp_path / "a.svg").iter() if node.tag.endswith("}text")]
    assert {"tiny", "$x^", "large", "lo<b>ra", "vector", "Pareto front", "N $1_"} <= set(texts)
    assert sum("(0 parameters)  1.200" in str(text) for text in texts) == 1


def test_a_score_axis_starts_at_zero_or_near_the_scores():
    near = (Point("a", 10, 0.742), Point("b", 100, 0.738))
    low, high = draw_chart(make_chart(points=near, bases=[], from_zero=False)).axes[0].get_ylim()
    assert 0.73 < low < 0.738 and 0.742 < high < 0.75
    low, high = draw_chart(make_chart(points=near, bases=[])).axes[0].get_ylim()
    assert -0.05 < low <= 0 and high > 0.742


def test_formats_are_what_the_suffix_says_and_the_same_each_time(tmp_path):
    for name in ("a.png", "a.pdf", "a.svg"):
        save_chart(make_chart(), tmp_path / name)
        first = (tmp_path / name).read_bytes()
        save_chart(make_chart(), tmp_path / name)
        assert (tmp_path / name).read_bytes() == first
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (1380, 690)
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF-")
    with pytest.raises(EvaluationError, match=r"ending in 'gif'; expected one of png, svg, pdf"):
        save_chart(make_chart(), tmp_path / "a.gif")


def test_many_points_are_labelled_on_the_front_only():
    points = [Point(f"p{i}", 10 * (i + 1), 1.0 + (i % 3)) for i in range(20)]
    texts = [text.get_text() for text in draw_chart(make_chart(points=points)).axes[0].texts]
    assert [text for text in texts if text.startswith("p")] == ["p0\n10"]
