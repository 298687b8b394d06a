"""The front that the page shows: which points, which run each draws from, and where it stands in the picture."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from report.material import SETTINGS, write_data, write_run, write_sweep

from superlora_diffusion.app.scatter import WIDTH, Axis, draw_scatter, table_rows
from superlora_diffusion.app.sweeps import read_front
from superlora_diffusion.errors import ConfigError, EvaluationError, RunError

from .conftest import NASTY


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    return read_front(str(write_sweep(tmp_path_factory.mktemp("front") / "compare")))


def svg(front, chosen=None):
    picture, _, legend = draw_scatter(front, chosen).partition("</svg>")
    return ET.fromstring(picture + "</svg>"), legend


def marks(front, chosen=None):
    """(x, y, element) of each point by its number."""
    root, _ = svg(front, chosen)
    found = {}
    for element in root.iter("g"):
        circle = element.find("circle")
        place = float(circle.get("cx")), float(circle.get("cy"))
        found[int(element.get("data-point"))] = (*place, element)
    return found


def test_every_setting_is_a_point_with_its_lowest_seed(front):
    assert [point.name for point in front.points] == list(SETTINGS)
    for point in front.points:
        assert (point.run.name, point.parameters) == (f"{point.name}-seed0", SETTINGS[point.name][1])
        assert point.score == pytest.approx(SETTINGS[point.name][2] + 0.01)
    assert [point.name for point in front.stair] == [
        "vector-13",
        "lorta-m5-r1",
        "lorta-r2",
        "lorta-r8",
        "dense",
    ]
    assert front.bases == (("tiny-base", 4.9),) and front.metric.key == "is_distance"
    assert "N 1,000" in front.protocol
    assert front.notes == ("2 runs are not shown: unfinished, or not scored like this.",)


def test_another_score_orders_anew(front):
    other = read_front(front.folder, "accuracy")
    assert other.metric.higher_is_better and other.points[0].score == pytest.approx(1 - 0.321)
    assert [metric.key for metric in other.metrics][:3] == ["is_distance", "fid", "accuracy"]


def test_what_holds_no_front_says_so(front, tmp_path):
    with pytest.raises(RunError, match="is no folder"):
        read_front(str(tmp_path / "gone"))
    with pytest.raises(RunError, match="holds no run"):
        read_front(str(tmp_path))
    with pytest.raises(ConfigError, match="no run has kid"):
        read_front(front.folder, "kid")
    write_run(tmp_path / "runs" / "one", write_data(tmp_path / "data.npz"), finished=False, losses=False)
    with pytest.raises(EvaluationError, match="none of the 1 runs"):
        read_front(str(tmp_path / "runs"))


def test_points_stand_where_their_values_are(front):
    places = marks(front)
    assert len(places) == len(front.points)
    across = [places[number][0] for number in range(len(places))]
    assert across == sorted(across) and 60 < across[0] < across[-1] < WIDTH
    up = {front.points[number].score: place[1] for number, place in places.items()}
    assert [up[score] for score in sorted(up)] == sorted(up.values(), reverse=True)  # a low score stands low
    first, second = front.points[1], front.points[5]
    slope = (across[5] - across[1]) / (len(str(second.parameters)) - len(str(first.parameters)))
    assert slope > 0
    root, legend = svg(front)
    texts = [element.text for element in root.iter("text")]
    assert "trained parameters" in texts and "IS distance (lower is better)" in texts and "10k" in texts
    assert "base tiny-base" in texts and "lorta" in legend
    stair = next(element for element in root.iter("path"))
    assert stair.get("d").count(" V ") == len(front.stair) - 1


def test_the_chosen_point_is_marked_and_told(front):
    chosen = [number for number, (*_, e) in marks(front, 3).items() if "chosen" in e.get("class")]
    assert chosen == [3]
    told = marks(front)[3][2].get("aria-label")
    assert told == "lonkr: lonkr, 620 parameters, IS distance 1.7100 ± 0.0141"


def test_names_are_text_and_no_template(front):
    nasty = replace(
        front, points=(replace(front.points[0], name=NASTY, family="<b>{{f}}"), *front.points[1:])
    )
    text = draw_scatter(nasty)
    assert "<img" not in text and "{{" not in text and "${" not in text and "<b>{" not in text
    assert marks(nasty)[0][2].get("aria-label").startswith(NASTY)


def test_one_point_and_equal_scores_have_a_picture(front):
    for points in (front.points[:1], tuple(replace(point, score=1.0) for point in front.points)):
        for metric in front.metrics:
            places = marks(replace(front, points=points, bases=(), metric=metric))
            assert all(0 < x < 640 and 0 < y < 360 for x, y, _ in places.values())
    zero = replace(front.points[0], score=0.0)
    assert len(marks(replace(front, points=(zero,), bases=()))) == 1


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 10, 0, 1, False), [0, 2, 4, 6, 8, 10]),
        (Axis(0.11, 0.19, 0, 1, False), [0.12, 0.14, 0.16, 0.18]),
        (Axis(40, 600, 0, 1, True), [50, 100, 200, 500]),
        (Axis(9, 20_000, 0, 1, True), [10, 100, 1000, 10_000]),
    ],
)
def test_ticks_are_round(axis, ticks):
    assert axis.ticks() == pytest.approx(ticks)
    assert Axis(10, 1000, 50, 250, True).place(100) == 150


def test_rows_of_the_table(front):
    rows = table_rows(front)
    assert rows[3] == [3, "lonkr", "lonkr", "620", "1.7100 ± 0.0141", ""]
    assert [row[0] for row in rows] == list(range(len(rows)))
    assert [row[1] for row in rows if row[-1]] == [point.name for point in front.stair]
    assert all(re.fullmatch(r"[\d,]+", row[3]) for row in rows)
