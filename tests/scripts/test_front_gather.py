"""The front: what is gathered from sweeps, and what is refused."""

from __future__ import annotations

import math

import pytest

from superlora_diffusion.errors import RunError

from .front_sweeps import METHODS, PROTOCOL, line, record, write_scores, write_sweep


def test_rows_are_sorted_and_families_are_four(gather, tmp_path):
    names = ["norms", "lorta-r4", "dense", "lora-r8", "dora", "lora-r1"]
    rows = [line(name, seed, 1000 if name == "lora-r8" else 50) for name in names for seed in (1, 0)]
    (found,) = gather.gather([write_sweep(tmp_path / "a", rows)])
    told = [(run.values["family"], run.values["parameters"], run.values["seed"]) for run in found.runs]
    assert told == sorted(told) and len(told) == 12
    assert {run.values["setting"]: run.values["family"] for run in found.runs} == {
        "norms": "baseline", "dense": "baseline", "lora-r1": "lora", "lora-r8": "lora",
        "dora": "peer", "lorta-r4": "superlora",
    }  # fmt: skip
    assert [run.values["setting"] for run in found.runs if run.values["family"] == "lora"] == (
        ["lora-r1", "lora-r1", "lora-r8", "lora-r8"]
    )


def test_a_family_can_be_given(gather, tmp_path):
    folder = write_sweep(tmp_path / "a", [line("lora-r1"), line("dense")])
    (found,) = gather.gather([folder], families={"lora-r1": "superlora"})
    assert [run.values["family"] for run in found.runs] == ["baseline", "superlora"]
    with pytest.raises(RunError, match="--family names lora-r3, which no sweep has"):
        gather.gather([folder], families={"lora-r3": "superlora"})


def test_rows_without_scores_are_named_and_left_out(gather, tmp_path):
    rows = [line("lora-r1", loss=math.nan), line("lora-r8", fid=None), line("dense", kid=None, accuracy=None)]
    (found,) = gather.gather([write_sweep(tmp_path / "a", rows)])
    assert found.left_out == ("a: lora-r1 seed 0 (val_loss nan)", "a: lora-r8 seed 0 (no fid)")
    assert [run.values["setting"] for run in found.runs] == ["dense"]
    with pytest.raises(RunError, match=r"no run on mnist-mini has scores: b: lora-r1 seed 0 \(no fid\)"):
        gather.gather([write_sweep(tmp_path / "b", [line("lora-r1", fid=None)])])


def test_the_same_run_twice_is_one_unless_numbers_differ(gather, tmp_path):
    a = write_sweep(tmp_path / "a", [line("lora-r1"), line("lora-r8")])
    b = write_sweep(tmp_path / "b", [line("lora-r1"), line("lora-r1", seed=1)])
    (found,) = gather.gather([a, b, a])
    assert [(run.values["setting"], run.values["seed"]) for run in found.runs] == [
        ("lora-r1", 0), ("lora-r8", 0), ("lora-r1", 1)
    ]  # fmt: skip
    c = write_sweep(tmp_path / "c", [line("lora-r1", fid=11.0)])
    with pytest.raises(
        RunError, match=r"lora-r1 seed 0 stands in a and c with other numbers: fid 10.0 and 11.0"
    ):
        gather.gather([a, c])


def test_one_name_for_two_settings_is_refused(gather, tmp_path):
    a = write_sweep(tmp_path / "a", [line("lora-r1")])
    other = {"lora-r1": {**METHODS["lora-r1"], "adapter.targets": ["to_k", "to_v"]}}
    b = write_sweep(tmp_path / "b", [line("lora-r1", seed=1)], methods=other)
    with pytest.raises(RunError, match=r"a: lora-r1 seed 0 and b: lora-r1 seed 1: adapter.targets differ"):
        gather.gather([a, b])


@pytest.mark.parametrize(
    ("key", "value"),
    [("sampling.steps", 7), ("evaluation.images", 40), ("train.batch_size", 5), ("validation.seed", 9)],
)
def test_other_protocols_are_refused(gather, tmp_path, key, value):
    a = write_sweep(tmp_path / "a", [line("lora-r1")])
    b = write_sweep(tmp_path / "b", [line("lora-r8")], **{key: value})
    with pytest.raises(RunError, match=f"{key} is .* in a: lora-r1 seed 0 and {value} in b: lora-r8 seed 0"):
        gather.gather([a, b])


def test_other_steps_are_refused_and_a_target_can_be_picked(gather, tmp_path):
    a = write_sweep(tmp_path / "a", [line("lora-r1")])
    with pytest.raises(RunError, match=r"train.steps is 300 in a: .* and 400 in b"):
        gather.gather([a, write_sweep(tmp_path / "b", [line("lora-r8", steps=400)])])
    usps = write_sweep(
        tmp_path / "c", [line("lora-r8", target="digits", steps=500)], **{"data.name": "digits"}
    )
    told = [(one.target, [run.values["setting"] for run in one.runs]) for one in gather.gather([usps, a])]
    assert told == [("digits", ["lora-r8"]), ("mnist-mini", ["lora-r1"])]  # other steps on another target
    (only,) = gather.gather([a, usps], "digits")
    assert [run.values["setting"] for run in only.runs] == ["lora-r8"]
    with pytest.raises(RunError, match="got --target mnist; the sweeps have mnist-mini, digits"):
        gather.gather([a, usps], "mnist")


def test_folders_that_are_no_sweeps_are_refused(gather, tmp_path):
    with pytest.raises(RunError, match=r"has no results.csv; give folders"):
        gather.gather([tmp_path])
    folder = write_sweep(tmp_path / "a", [line("lora-r1")])
    good = (folder / "results.csv").read_text()
    for old, new, words in [
        ("fid", "fie", "lacks the columns fid"),
        ("0.2,", "much,", "row lora-r1 0 holds no number"),
        ("lora-r1", "lora-r5", "lora-r5 seed 0 is no cell of the sweep.yaml"),
    ]:
        (folder / "results.csv").write_text(good.replace(old, new))
        with pytest.raises(RunError, match=words):
            gather.gather([folder])


def test_the_base_is_the_one_measured_as_the_runs_were(gather, tmp_path):
    folder = write_sweep(tmp_path / "a", [line("lora-r1")], **PROTOCOL)
    runs = gather.gather([folder])[0].runs
    assert gather.base_scores(runs) == {}
    others = [
        record(splits=10, fid=1.0),
        record(n=600, fid=2.0),
        record(settings={"sampler": "ddpm"}, fid=3.0),
        record(settings={"base": "another"}, fid=4.0),
        record(parameters=5, fid=5.0),
    ]
    write_scores(folder / "bases", [*others, record()])
    expected = {"is_distance": 4.0, "fid": 70.0, "kid": 1.0, "accuracy": 0.99}
    assert gather.base_scores(runs) == expected
    # The same protocol on other real images is told apart by the run's own scores.
    write_scores(folder / "bases", [record(settings={"real": "r2"}, fid=6.0), record()])
    with pytest.raises(RunError, match=r"different scores of the base synthdigits-16: FID 6.0 and 70.0"):
        gather.base_scores(runs)
    own = record(name="lora-r1-seed0", parameters=100, fid=10.0, settings={"weights": "mine"})
    write_scores(folder / "cells" / "lora-r1-seed0", [own])
    assert gather.base_scores(runs) == expected


def test_other_real_images_under_one_name_are_refused(gather, tmp_path):
    folders = [write_sweep(tmp_path / name, [line(f"lora-r{name}")], **PROTOCOL) for name in "18"]
    for folder, real in zip(folders, ("r1", "r2"), strict=True):
        own = record(name=f"lora-r{folder.name}-seed0", parameters=9, fid=10.0, settings={"real": real})
        write_scores(folder / "cells" / f"lora-r{folder.name}-seed0", [own])
    with pytest.raises(RunError, match=r"real images is r1 in 1: .* and r2 in 8"):
        gather.gather(folders)
