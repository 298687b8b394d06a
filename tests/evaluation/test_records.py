"""`scores.json`, the table and the plot."""

from __future__ import annotations

import io
import json
import os
import stat

import numpy as np
import pytest
from matplotlib import image as matplotlib_image
from pydantic import ValidationError
from rich.console import Console

from superlora_diffusion.errors import EvaluationError, SuperLoRAError
from superlora_diffusion.evaluation.plot import plot_front
from superlora_diffusion.evaluation.records import ScoreRecord, read_scores, write_scores
from superlora_diffusion.evaluation.scores import Scores
from superlora_diffusion.evaluation.table import scores_table

from .helpers import make_record

ISSUE_FIELDS = {
    *("name", "parameters", "is_mean", "is_std", "is_real", "is_distance", "fid", "accuracy"),
    *("n", "splits", "seed", "extractor"),
}


def printed(records) -> str:
    stream = io.StringIO()
    Console(file=stream, width=160).print(scores_table(records))
    return stream.getvalue()


# --- scores.json ----------------------------------------------------------------------------------


def test_what_is_written_is_read_again(tmp_path):
    records = [make_record("base", 0), make_record(accuracy=None, notes=("weak",))]
    path = tmp_path / "new folder" / "scores.json"
    assert write_scores(path, records) == records
    assert read_scores(path) == records
    stored = json.loads(path.read_text())
    assert isinstance(stored, list) and set(stored[0]) >= ISSUE_FIELDS
    assert (stored[1]["parameters"], stored[1]["accuracy"], stored[1]["settings"]["steps"]) == (
        1060,
        None,
        20,
    )


OLD = """[{"name": "demo", "parameters": 1134, "is_mean": 6.5, "is_std": 0.3, "is_stderr": 0.1, "is_real": 9.2,
  "is_real_std": 0.1, "is_distance": 2.7, "fid": 12.5, "accuracy": null, "n": 1000, "splits": 10, "shuffle": true,
  "seed": 0, "extractor": "digits", "extractor_hash": "13313ddccf69", "notes": [], "settings": {"steps": 20}}]"""


def test_a_file_from_before_kid_and_intervals_is_read(tmp_path):
    (tmp_path / "scores.json").write_text(OLD)
    (record,) = read_scores(tmp_path / "scores.json")
    assert (record.is_mean, record.fid, record.accuracy) == (6.5, 12.5, None)
    assert record.metrics == ("is", "fid", "accuracy")
    assert (record.kid, record.precision, record.fid_interval, record.libraries) == (None, None, None, {})
    again = record.model_copy(update={"kid": 0.5, "metrics": ("is", "fid", "kid")})
    assert write_scores(tmp_path / "scores.json", [again]) == [again]


def test_measuring_again_replaces_in_place(tmp_path):
    path = tmp_path / "scores.json"
    write_scores(path, [make_record("base", 0), make_record("lora", 75776)])
    again = make_record("base", 0, is_distance=0.7, extractor_hash="feedfeedfeed")
    assert [row.is_distance for row in write_scores(path, [again])] == [0.7, 0.5]
    assert read_scores(path)[0] == again


@pytest.mark.parametrize(
    "change",
    [{"settings": {"steps": 50}}, {"extractor": "inception"}, {"n": 500}, {"splits": 5}, {"seed": 1}],
)
def test_another_measurement_is_added(tmp_path, change):
    path = tmp_path / "scores.json"
    write_scores(path, [make_record()])
    assert len(write_scores(path, [make_record(**change)])) == 2


def test_the_file_is_never_half_written(tmp_path, monkeypatch):
    path = tmp_path / "scores.json"
    write_scores(path, [make_record()])
    before = path.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(SuperLoRAError, match=r"scores\.json cannot be written: disk full"):
            write_scores(path, [make_record("other")])
    assert path.read_bytes() == before and [item.name for item in tmp_path.iterdir()] == ["scores.json"]


def test_the_file_has_the_usual_rights(tmp_path):
    write_scores(tmp_path / "scores.json", [make_record()])
    (tmp_path / "plain").write_text("")
    rights = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("scores.json", "plain")]
    assert rights[0] == rights[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no scores could be read"),
        ("[{", "no scores could be read"),
        ("{}", "holds a dict, expected a list"),
        ("[3]", "entry 0 is no score record"),
        ('[{"name": "x"}]', "entry 0 is no score record.*extractor: Field required"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content, message):
    path = tmp_path / "scores.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(EvaluationError, match=message):
        read_scores(path)


def test_records_refuse_unknown_fields_and_broken_numbers():
    for change in ({"fid_score": 1.0}, {"fid": float("nan")}, {"parameters": -1}):
        with pytest.raises(ValidationError):
            ScoreRecord.model_validate(make_record().model_dump() | change)


def test_scores_become_a_record():
    values = {
        name: value for name, value in make_record().model_dump().items() if name in Scores.__annotations__
    }
    scores = Scores(**values)
    record = ScoreRecord.from_scores("lorta", 1060, scores, {"sampler": "ddim", "steps": 20})
    assert record == make_record()
    assert set(Scores.__annotations__) | {"name", "parameters", "settings", "libraries"} == set(
        ScoreRecord.model_fields
    )


# --- the table ------------------------------------------------------------------------------------


def test_the_table_says_what_was_measured_and_how():
    text = printed(
        [make_record("base", 0, is_distance=2.125, accuracy=None), make_record("lora [r8]", 75776)]
    )
    for expected in ("base", "lora [r8]", "75,776", "8.500 ± 0.063", "2.1250", "91.0%", "9.000", "1.250"):
        assert expected in text
    assert "N 1,000, 10 splits, shuffled, seed 0, extractor digits 0123456789ab" in text
    assert text.count("extractor") == 1


def test_the_table_has_columns_for_what_was_measured_alone():
    text = printed([make_record(kid=0.01234, precision=0.75, recall=0.5)])
    for expected in ("KID", "0.0123", "precision", "0.750", "recall", "0.500"):
        assert expected in text
    text = printed([make_record(is_mean=None, is_distance=None, is_real=None, accuracy=None)])
    assert "FID" in text
    assert not any(heading in text for heading in ("IS", "KID", "precision", "recall", "accuracy"))
    assert "-" in printed([make_record(), make_record("b", accuracy=None)])


def test_the_table_tells_protocols_apart_and_repeats_notes_once():
    records = [make_record(notes=("too few",)), make_record("b", notes=("too few",)), make_record("c", n=500)]
    text = printed(records)
    assert "(1) N 1,000" in text and "(2) N 500" in text and text.count("note: too few") == 1
    assert "N differs (1000, 500): --images sets it for all" in text and "--seed" not in text
    text = " ".join(printed([make_record(), make_record("b", extractor_hash="feedfeedfeed")]).split())
    assert "weights have changed: --again scores anew" in text and "differs" not in text


# --- the plot -------------------------------------------------------------------------------------

BASE_RED = np.array([0xB5, 0x48, 0x2A]) / 255
POINT_BLUE = np.array([0x1F, 0x5F, 0xA8]) / 255


def pixels_of(path, colour) -> np.ndarray:  # -> (K, 2) rows and columns
    picture = matplotlib_image.imread(path)[..., :3]
    return np.argwhere(np.abs(picture - colour).max(axis=-1) < 0.02)


def test_points_and_base_are_where_they_belong(tmp_path):
    path = tmp_path / "front.png"
    rows = [make_record("base", 0, is_distance=2.0), make_record("a", 1000, is_distance=0.5)]
    plot_front([*rows, make_record("b", 100_000, is_distance=1.0)], path)
    blue, red = pixels_of(path, POINT_BLUE), pixels_of(path, BASE_RED)
    height, width = matplotlib_image.imread(path).shape[:2]
    assert (
        np.ptp(red[:, 1]) > 0.7 * width and np.median(red[:, 0]) < 0.3 * height
    )  # across, and above both points
    middle = (blue[:, 1].min() + blue[:, 1].max()) / 2
    left, right = blue[blue[:, 1] < middle], blue[blue[:, 1] > middle]
    # On a log axis 1,000 and 100,000 are far apart; the better one lies lower in the picture.
    assert right[:, 1].mean() - left[:, 1].mean() > 0.4 * width
    assert left[:, 0].mean() > right[:, 0].mean() + 0.1 * height


@pytest.mark.parametrize("names", [["base"], ["a"], ["base", "a"], ["a", "b", "c"]])
def test_any_selection_can_be_drawn(tmp_path, names):
    path = tmp_path / "sub" / "front.png"
    plot_front([make_record(name, 0 if name == "base" else 1060) for name in names], path)
    assert (len(pixels_of(path, BASE_RED)) > 50) == ("base" in names)
    assert (len(pixels_of(path, POINT_BLUE)) > 50) == (names != ["base"])
    assert [item.name for item in path.parent.iterdir()] == ["front.png"]


def test_what_cannot_be_compared_is_not_plotted(tmp_path):
    with pytest.raises(EvaluationError, match=r"measured in different ways.*N 1,000.*N 500"):
        plot_front([make_record(), make_record("b", n=500)], tmp_path / "front.png")
    with pytest.raises(EvaluationError, match="no record to plot"):
        plot_front([], tmp_path / "front.png")
    assert list(tmp_path.iterdir()) == []


def test_records_without_an_is_distance_are_left_out_and_alone_refused(tmp_path):
    bare = make_record("b", is_mean=None, is_stderr=None, is_distance=None)
    plot_front([make_record(), bare], tmp_path / "front.png")
    with pytest.raises(EvaluationError, match="no record has an IS distance"):
        plot_front([bare], tmp_path / "none.png")
    assert [path.name for path in tmp_path.iterdir()] == ["front.png"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SuperLoRAError, match=r"front\.png cannot be written"):
        plot_front([make_record()], tmp_path / "file" / "front.png")
