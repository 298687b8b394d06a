"""Seeds taken together, protocols kept apart."""

import numpy as np
import pytest

from superlora_diffusion.evaluation.records import write_scores
from superlora_diffusion.report.collect import collect
from superlora_diffusion.report.compare import estimate, make_views, protocol_of
from superlora_diffusion.report.metrics import BY_KEY, suits_log_axis

from .material import PROTOCOL, SETTINGS, make_record, write_data, write_run


def test_means_and_deviations_over_seeds(sweep):
    (view,) = make_views(collect([sweep]))
    assert [s.name for s in view.settings] == list(SETTINGS)  # the material is in the order of its parameters
    for setting in view.settings:
        _, parameters, distance = SETTINGS[setting.name]
        values = np.array([distance, distance + 0.02])
        for key, scores in (("is_distance", values), ("fid", 10 * values), ("accuracy", 1 - values / 10)):
            assert setting.scores[key].mean == pytest.approx(scores.mean())
            assert setting.scores[key].error == pytest.approx(scores.std(ddof=1))
        assert setting.parameters == parameters and setting.scores["is_mean"].count == 2
        assert setting.scores["val_loss"].error == pytest.approx(0.001 / np.sqrt(2))
    assert [metric.key for metric in view.metrics()] == [
        "is_distance",
        "fid",
        "accuracy",
        "is_mean",
        "val_loss",
    ]
    assert view.bases == (
        (
            "tiny-base",
            {"is_distance": 4.9, "fid": 49.0, "accuracy": pytest.approx(0.51), "is_mean": pytest.approx(4.1)},
        ),
    )
    assert {(run.path.name, why) for run, why in view.left_out} == {
        ("broken-off", "not finished"),
        ("unscored", "no scores"),
    }


def test_one_seed_has_the_scores_own_error_where_there_is_one():
    assert estimate([2.0], 0.3) == estimate([2.0], 0.3).__class__(2.0, 0.3, 1)
    assert estimate([2.0]).error is None
    assert estimate([1.0, 3.0], 0.3).error == pytest.approx(np.sqrt(2))


def test_runs_measured_in_two_ways_never_share_a_view(tmp_path):
    data = write_data(tmp_path / "d.npz")
    for name, changes in {
        "a": {}, "b": {}, "c": {"n": 500}, "d": {"settings": {**PROTOCOL, "guidance_scale": 3.0}},
        "e": {"settings": {**PROTOCOL, "base": "other", "weights": "ffff"}},
    }.items():  # fmt: skip
        write_run(tmp_path / name, data, record=make_record(name, 10, 1.0, **changes), losses=False)
    views = make_views(collect([tmp_path]))
    shown = [{s.name for s in view.settings} for view in views]
    assert shown == [{"a", "b", "e"}, {"c"}, {"d"}] or shown == [{"a", "b", "e"}, {"d"}, {"c"}]
    assert ("c", "scored in another way") in {(run.setting, why) for run, why in views[0].left_out}
    assert "N 1,000" in views[0].protocol and "guidance scale 2.0" in views[0].protocol


def test_a_base_in_a_folder_is_called_by_its_last_name(tmp_path):
    data = write_data(tmp_path / "d.npz")
    write_run(tmp_path / "a", data, record=make_record("a", 10, 1.0))
    for path, distance in (("/far/away/mine", 3.0), ("user/other/", 2.0), ("/far/away/mine", 3.0)):
        record = make_record("base", 0, distance, settings={**PROTOCOL, "base": path})
        write_scores(tmp_path / "a" / "scores.json", [record])
    (view,) = make_views(collect([tmp_path]))
    assert view.base_values(BY_KEY["is_distance"]) == [("tiny-base", 4.9), ("mine", 3.0), ("other", 2.0)]


def test_the_newest_record_of_a_protocol_counts(tmp_path):
    data = write_data(tmp_path / "d.npz")
    write_run(tmp_path / "a", data, record=make_record("a", 10, 1.0))
    again = make_record("a", 10, 0.4, settings={**PROTOCOL, "weights": "trained anew"})
    write_scores(tmp_path / "a" / "scores.json", [again])
    (view,) = make_views(collect([tmp_path]))
    assert view.settings[0].scores["is_distance"].mean == 0.4


def test_without_any_scores_the_losses_are_compared(tmp_path):
    data = write_data(tmp_path / "d.npz")
    for name in ("a", "b"):
        write_run(tmp_path / name, data)
    write_run(tmp_path / "c", data, validation={"images": 7})
    (view,) = make_views(collect([tmp_path]))
    assert [metric.key for metric in view.metrics()] == ["val_loss"]
    assert {s.name for s in view.settings} == {"a", "b"}  # c measured its loss on other images
    assert any("left out" in note for note in view.notes)
    assert {run.setting for run, _ in view.left_out} == {"a", "b", "c"}


def test_protocols_ignore_what_is_measured():
    record = make_record("a", 1, 1.0)
    same = make_record("b", 2, 2.0, settings={**PROTOCOL, "weights": "x", "base": "y"})
    assert protocol_of(record) == protocol_of(same) != protocol_of(make_record("a", 1, 1.0, seed=1))


def test_a_log_axis_is_for_wide_positive_scores():
    distance, accuracy = BY_KEY["is_distance"], BY_KEY["accuracy"]
    assert suits_log_axis(distance, [0.1, 5.0]) and not suits_log_axis(distance, [0.3, 5.0])
    assert not suits_log_axis(distance, [0.0, 5.0]) and not suits_log_axis(accuracy, [0.01, 1.0])
    assert not suits_log_axis(distance, [])
