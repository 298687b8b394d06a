"""What is read from run folders, and that nothing found in them disappears."""

import json
import os

import pytest

from superlora_diffusion.errors import RunError
from superlora_diffusion.report.collect import collect, find_grid, read_curves, read_run

from .material import SEEDS, SETTINGS, make_record, write_data, write_run


def test_a_sweeps_runs_are_found_and_its_race_is_not(sweep):
    found = {run.path.name: run for run in collect([sweep]).runs}
    assert set(found) == {f"{s}-seed{i}" for s in SETTINGS for i in SEEDS} | {"broken-off", "unscored"}
    run = found["lorta-r8-seed1"]
    assert (run.setting, run.seed, run.family, run.parameters, run.status) == (
        "lorta-r8",
        1,
        "lorta",
        1472,
        "scored",
    )
    assert run.records[0].is_distance == pytest.approx(0.62) and run.grid.name == "step-000500.png"
    assert run.race == ((0.01, 0.2), (0.02, 0.15)) and run.sweep == "compare"
    assert run.command.endswith("lorta-r8-seed1/config.yaml output=NEW_FOLDER")
    assert found["broken-off"].status == "not finished" and found["unscored"].status == "no scores"
    assert found["unscored"].parameters == 77 and found["unscored"].val_loss is None


def test_bases_are_kept_apart_and_each_counted_once(sweep):
    bases = collect([sweep]).bases
    assert [(record.name, record.parameters, record.is_distance) for record in bases] == [("base", 0, 4.9)]


def test_a_base_that_was_scored_for_all_cells_at_once_is_found(tmp_path):
    data = write_data(tmp_path / "d.npz")
    write_run(tmp_path / "s" / "cells" / "a", data)
    (tmp_path / "s" / "bases").mkdir()
    text = json.dumps([make_record("base", 0, 4.0).model_dump(mode="json")])
    (tmp_path / "s" / "bases" / "scores.json").write_text(text, encoding="utf-8")
    assert [record.is_distance for record in collect([tmp_path]).bases] == [4.0]


def test_a_run_without_a_card_is_a_setting_of_its_own(tmp_path):
    data = write_data(tmp_path / "d.npz")
    record = make_record("it's $mine", 20, 1.0)
    write_run(tmp_path / "it's $mine", data, seed=3, record=record, card=False, adapter={"variant": "lora"})
    (run,) = collect([tmp_path / "it's $mine"]).runs
    assert (run.setting, run.seed, run.family) == ("it's $mine", 3, "lora")
    assert run.command == f"superlora-diff train --config '{tmp_path}/it'\"'\"'s $mine/config.yaml'"


@pytest.mark.parametrize("name", ["base", "samples", "adapter"])
def test_a_run_may_be_called_like_a_part_of_one(tmp_path, name):
    write_run(tmp_path / name, write_data(tmp_path / "d.npz"))
    assert [run.setting for run in collect([tmp_path]).runs] == [name]


def test_the_same_run_by_two_ways_is_one_and_a_loop_of_links_ends(tmp_path):
    write_run(tmp_path / "runs" / "a", write_data(tmp_path / "d.npz"))
    os.symlink(tmp_path / "runs", tmp_path / "runs" / "again")
    assert len(collect([tmp_path, tmp_path / "runs", tmp_path / "runs" / "a"]).runs) == 1


def test_failed_cells_of_a_sweep_are_told(tmp_path):
    data = write_data(tmp_path / "d.npz")
    write_run(tmp_path / "cells" / "half", data, finished=False)
    write_run(tmp_path / "cells" / "later", data, record=make_record("later", 5, 1.0))
    (tmp_path / "sweep.yaml").write_text("output: x")
    failed = {"status": "failed", "error": "Traceback...\nValueError: IA3 cannot hold <conv>"}
    state = {name: failed for name in ("half", "never-begun", "later")} | {"fine": {"status": "finished"}}
    (tmp_path / "state.json").write_text(json.dumps(state))
    found = {run.setting: run.status for run in collect([tmp_path]).runs}
    why = "failed: ValueError: IA3 cannot hold <conv>"
    assert found == {
        "half": why,
        "never-begun": why,
        "later": "scored",
    }  # what was done since is not held against it


def test_broken_files_are_told_and_stop_nothing(tmp_path):
    data = write_data(tmp_path / "d.npz")
    for name in ("config", "scores", "card", "fine"):
        write_run(tmp_path / name, data, record=make_record(name, 9, 1.0))
    (tmp_path / "config" / "config.yaml").write_text("adapter: {rnak: 3}")
    (tmp_path / "scores" / "scores.json").write_text("[{")
    (tmp_path / "card" / "cell.json").write_text("[1]")
    found = {run.path.name: run for run in collect([tmp_path]).runs}
    assert found["config"].status.startswith("config.yaml cannot be read: ")
    assert found["scores"].status.startswith("scores.json cannot be read: ")
    assert found["card"].status == found["fine"].status == "scored" and found["card"].setting == "card"


def test_curves_skip_what_is_no_number(tmp_path):
    lines = [
        '{"step": 1, "loss": 0.5}',
        '{"step": 2, "loss": NaN}',
        "[]",
        '{"step": 3, "validation_loss": 0.25}',
        '{"st',
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    assert read_curves(tmp_path / "m.jsonl") == ([(1, 0.5)], [(3, 0.25)])
    assert read_curves(tmp_path / "none.jsonl") == ([], [])


def test_the_last_preview_is_the_grid_else_a_drawn_one(tmp_path):
    assert find_grid(tmp_path) is None
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "grid.png").touch()
    assert find_grid(tmp_path) == tmp_path / "sample" / "grid.png"
    for step in ("000500", "001500", "1000000"):
        (tmp_path / f"step-{step}.png").touch()
    assert find_grid(tmp_path) == tmp_path / "step-1000000.png"


def test_places_without_runs_are_refused(tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        collect([tmp_path])
    with pytest.raises(RunError, match=r"nowhere is no folder"):
        collect([tmp_path / "nowhere"])


def test_a_network_trained_from_nothing_is_a_base(tmp_path):
    data = write_data(tmp_path / "d.npz")
    build = {"path": None, "build": {"unet": {"sample_size": 8}}}
    write_run(tmp_path / "a", data, method="full", base=build, finished=False)
    (tmp_path / "a" / "base").mkdir()
    (tmp_path / "a" / "base" / "model_index.json").write_text("{}")
    assert read_run(tmp_path / "a").status == "no scores"
    text = json.dumps([make_record("a", 0, 1.0).model_dump(mode="json")])
    (tmp_path / "a" / "scores.json").write_text(text)
    assert read_run(tmp_path / "a").status == "a base"


def test_a_damaged_file_of_accuracies_is_told(tmp_path):
    write_run(tmp_path / "a", write_data(tmp_path / "d.npz"))
    (tmp_path / "a" / "accuracy.json").write_text("{", encoding="utf-8")
    (run,) = collect([tmp_path]).runs
    assert run.status.startswith("accuracy.json cannot be read: ")
