"""The front: what is gathered from sweeps, what is refused, which ratios come out, what is written."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from superlora_diffusion.errors import DataError, RunError

SCRIPTS = Path(__file__).parents[2] / "scripts"
COLUMNS = [
    "setting", "family", "target", "parameters", "seed", "lr", "steps",
    "val_loss", "is_distance", "fid", "kid", "accuracy",
]  # fmt: skip
METHODS = {
    "lora-r1": {"adapter.variant": "lora", "adapter.rank": 1},
    "lora-r8": {"adapter.variant": "lora", "adapter.rank": 8},
    "dense": {"adapter.variant": "dense"},
    "lorta-r4": {"adapter.variant": "lorta", "adapter.rank": 4},
    "lotr-r4": {"adapter.variant": "lotr", "adapter.rank": 4},
    "norms": {"method": "norms"},
    "dora": {"method": "peft", "peft.tuner": "lora"},
}


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.fixture
def gather():
    from front import gather

    return gather


@pytest.fixture
def ratios():
    from front import ratios

    return ratios


def line(setting, seed=0, parameters=100, loss=0.2, distance=1.0, fid=10.0, **other):
    """A row of results.csv."""
    scores = {"val_loss": loss, "is_distance": distance, "fid": fid, "kid": 0.1, "accuracy": 0.9}
    row = {
        "setting": setting,
        "family": "as the sweep says",
        "target": "mnist-mini",
        "parameters": parameters,
    }
    return {**row, "seed": seed, "lr": 0.02, "steps": 300, **scores, **other}


def write_sweep(folder, rows, methods=None, **values):
    """A sweep's results.csv and sweep.yaml."""
    folder.mkdir(parents=True)
    chosen = methods or METHODS
    names = dict.fromkeys(row["setting"] for row in rows)
    sweep = {
        "output": str(folder),
        "config": "demo",
        "set": {"data.name": "mnist-mini", "train.steps": 300, **values},
        "settings": [{"name": name, "set": chosen[name]} for name in names],
        "seeds": sorted({row["seed"] for row in rows}),
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "precision"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_rows_are_sorted_and_families_are_four(gather, tmp_path):
    names = ["norms", "lorta-r4", "dense", "lora-r8", "dora", "lora-r1"]
    rows = [line(name, seed, 1000 if name == "lora-r8" else 50) for name in names for seed in (1, 0)]
    found = gather.gather([write_sweep(tmp_path / "a", rows)])
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
    found = gather.gather([folder], families={"lora-r1": "superlora"})
    assert [run.values["family"] for run in found.runs] == ["baseline", "superlora"]
    with pytest.raises(RunError, match="--family names lora-r3, which no sweep has"):
        gather.gather([folder], families={"lora-r3": "superlora"})


def test_rows_without_scores_are_named_and_left_out(gather, tmp_path):
    rows = [line("lora-r1", loss=math.nan), line("lora-r8", fid=None), line("dense", kid=None, accuracy=None)]
    found = gather.gather([write_sweep(tmp_path / "a", rows)])
    assert found.left_out == ("a: lora-r1 seed 0 (val_loss nan)", "a: lora-r8 seed 0 (no fid)")
    assert [run.values["setting"] for run in found.runs] == ["dense"]
    with pytest.raises(RunError, match=r"no run has scores: b: lora-r1 seed 0 \(no fid\)"):
        gather.gather([write_sweep(tmp_path / "b", [line("lora-r1", fid=None)])])


def test_the_same_run_twice_is_one_unless_numbers_differ(gather, tmp_path):
    a = write_sweep(tmp_path / "a", [line("lora-r1"), line("lora-r8")])
    b = write_sweep(tmp_path / "b", [line("lora-r1"), line("lora-r1", seed=1)])
    found = gather.gather([a, b, a])
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
    with pytest.raises(RunError, match=r"several targets: mnist-mini, digits. Pick one with --target"):
        gather.gather([a, usps])
    assert [run.values["setting"] for run in gather.gather([a, usps], "digits").runs] == ["lora-r8"]
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


def record(**values):
    drawn = {"sampler": "dpm++2m", "steps": 10, "guidance_scale": 2.0, "base": "synthdigits-16", "real": "r1"}
    settings = {**drawn, "weights": "w", **values.pop("settings", {})}
    fixed = {"name": "base", "parameters": 0, "is_distance": 4.0, "fid": 70.0, "kid": 1.0, "accuracy": 0.99}
    fixed |= {"n": 500, "splits": 5, "seed": 0, "extractor": "digits", "extractor_hash": "e"}
    return {**fixed, **values, "settings": settings}


PROTOCOL = {
    "sampling.sampler": "dpm++2m", "sampling.steps": 10, "sampling.guidance_scale": 2, "evaluation.images": 500,
    "evaluation.splits": 5, "base.path": "synthdigits-16",
}  # fmt: skip


def write_scores(folder, records):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(json.dumps(records))


def test_the_base_is_the_one_measured_as_the_runs_were(gather, tmp_path):
    folder = write_sweep(tmp_path / "a", [line("lora-r1")], **PROTOCOL)
    runs = gather.gather([folder]).runs
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


# --- ratios, by hand -----------------------------------------------------------------------------------------


def setting(ratios, name, parameters, loss, distance, fid, seeds=(0, 1, 2), family="superlora"):
    means = {"val_loss": loss, "is_distance": distance, "fid": fid, "kid": None, "accuracy": None}
    return ratios.Setting(name, family, parameters, (0.02,), frozenset(seeds), means)


def test_no_worse_is_no_worse(ratios):
    reference = {"val_loss": 0.1, "is_distance": 1.0, "fid": 10.0}
    assert ratios.no_worse(reference, reference)
    assert ratios.no_worse({"val_loss": 0.09, "is_distance": 0.0, "fid": 10.0}, reference)
    for name in reference:
        worse = {**reference, name: math.nextafter(reference[name], math.inf)}
        assert ratios.failing(worse, reference, ratios.MEASURES) == (name,)
        assert not ratios.no_worse(worse, reference)
        others = [other for other in reference if other != name]
        assert ratios.no_worse(worse, reference, others)


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_known_never_passes(ratios, nothing):
    known = {"val_loss": 0.1, "is_distance": 1.0, "fid": 10.0}
    unknown = {**known, "fid": nothing}
    assert ratios.failing(unknown, known, ratios.MEASURES) == ("fid",)
    assert ratios.failing(known, unknown, ratios.MEASURES) == ("fid",)
    assert ratios.failing(unknown, unknown, ratios.MEASURES) == ("fid",)
    assert ratios.failing({}, known, ("val_loss",)) == ("val_loss",)


def test_the_smallest_that_is_no_worse(ratios):
    lora = ratios.reference_of(setting(ratios, "lora-r8", 1000, 0.1, 1.0, 10.0, family="lora"))
    ours = [
        setting(ratios, "big", 500, 0.09, 0.9, 9.0),
        setting(ratios, "tie", 50, 0.1, 1.0, 10.0),
        setting(ratios, "few-seeds", 40, 0.01, 0.1, 1.0, seeds=(0, 1)),
        setting(ratios, "loss-alone", 30, 0.05, 2.0, 11.0),
        setting(ratios, "nan", 20, 0.05, math.nan, 1.0),
        setting(ratios, "tiny", 10, 0.3, 3.0, 30.0),
    ]
    found = ratios.smallest_no_worse(ours, lora)
    assert found.name == "tie" and ratios.ratio(lora.parameters, found) == 20
    assert ratios.smallest_no_worse(ours, lora, ("val_loss",)).name == "nan"
    assert ratios.smallest_no_worse(ours, lora, ("is_distance",)).name == "tie"
    assert [(one.name, reasons) for one, reasons in ratios.next_smaller(ours, lora, found)] == [
        ("few-seeds", ("seeds 2 not run",)),
        ("loss-alone", ("is_distance", "fid")),
        ("nan", ("is_distance",)),
    ]
    assert ratios.smallest_no_worse(ours[3:], lora) is None and ratios.ratio(1000, None) is None
    assert [one.name for one, _ in ratios.next_smaller(ours[3:], lora, None)] == ["loss-alone", "nan", "tiny"]
    assert ratios.smallest_no_worse([], lora) is None


def test_of_equal_counts_less_loss_wins_and_then_the_name(ratios):
    lora = ratios.reference_of(setting(ratios, "lora-r8", 1000, 0.1, 1.0, 10.0))
    twins = [
        setting(ratios, name, 50, loss, 1.0, 1.0) for name, loss in [("c", 0.09), ("b", 0.08), ("a", 0.09)]
    ]
    assert ratios.smallest_no_worse(twins, lora).name == "b"
    assert ratios.smallest_no_worse([twins[0], twins[2]], lora).name == "a"
    assert ratios.ratio(1000, setting(ratios, "none", 0, 0.1, 1.0, 1.0)) is None


def test_what_is_left_to_reach_a_share_of_the_gain(ratios):
    dense = setting(ratios, "dense", 1000, 0.1, 1.0, 10.0)
    reference = ratios.gain_reference(dense, {"val_loss": 0.3, "is_distance": 5.0, "fid": 70.0})
    assert reference.values == pytest.approx({"val_loss": 0.11, "is_distance": 1.2, "fid": 13.0})
    assert reference.measures == ("val_loss", "fid") and reference.parameters == 1000
    near = setting(ratios, "near", 10, 0.105, 9.0, 13.0 - 1e-9)
    assert ratios.smallest_no_worse([near], reference) is near  # the IS distance is not judged
    unknown = ratios.gain_reference(dense, {"val_loss": 0.1, "is_distance": math.nan})
    assert unknown.values == {"val_loss": None, "is_distance": None, "fid": None}


def test_means_are_over_all_seeds_or_none(ratios):
    rows = [
        line("a", seed, loss=loss, kid=kid) for seed, loss, kid in [(0, 0.1, 1), (1, 0.2, None), (2, 0.6, 1)]
    ]
    rows += [line("b", 0, parameters=9) | {"lr": 0.5}]
    b, a = ratios.summarise([{**row, "family": "x"} for row in rows])
    assert (a.name, a.seeds, a.rates, b.rates) == ("a", {0, 1, 2}, (0.02,), (0.5,))
    assert a.means["val_loss"] == pytest.approx(0.3) and a.deviations["val_loss"] == pytest.approx(0.07**0.5)
    assert a.means["kid"] is None and a.deviations["kid"] is None
    assert b.means["val_loss"] == 0.2 and b.deviations["val_loss"] is None


# --- what is written -----------------------------------------------------------------------------------------


@pytest.fixture
def sweep(tmp_path):
    rows = [line("dense", s, 2000, 0.08, 0.5, 5.0 + 2 * s) for s in (0, 1)]
    rows += [line("lora-r1", s, 400, 0.12, 2.0, 20.0) for s in (0, 1)]
    rows += [line("lora-r8", s, 1500, 0.10, 1.0 + 0.1 * s, 10.0) for s in (0, 1)]
    rows += [line("lotr-r4", s, 75, 0.10, 1.05, 10.0) for s in (0, 1)]
    rows += [line("lorta-r4", s, 30, 0.11, 3.0, 19.0) for s in (0, 1)]
    folder = write_sweep(tmp_path / "front-base", rows, **PROTOCOL)
    write_scores(folder / "bases", [record()])
    return folder


def run(*words):
    import make_front

    return make_front.main([str(word) for word in words])


def test_the_files(sweep, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(sweep, "--out", out, "--base-loss", 0.5) == 0
    with (out / "front.csv").open() as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == COLUMNS and len(rows) == 10
    assert rows[0]["family"] == "baseline" and rows[-1]["setting"] == "lotr-r4" and rows[-1]["lr"] == "0.02"
    text = (out / "front.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert "| base | | 0 | | | 0.5000 | 4.000 | 70.00 | 1.0000 | 99.0 % |" in text
    row = "| 0.02 | 2 | 0.1000 ± 0.0000 | 1.050 ± 0.071 | 10.00 ± 0.00 | 0.1000 ± 0.0000 | 90.0 ± 0.0 % |"
    assert f"| lora-r8 | lora | 1,500 {row}" in text
    expected = "lotr-r4 | 75 | 20.0 | lorta-r4 (30): val. loss, IS distance, FID"
    alone = "lotr-r4 (75): 20.0"
    assert f"| lora-r8 | 1,500 | {expected} | {alone} | {alone} | {alone} |" in text
    assert "| lora-r1 | 400 | lotr-r4 | 75 | 5.3 | lorta-r4 (30): IS distance | lorta-r4 (30): 13.3 |" in text
    assert "| lora-r16 | not run |" in text
    gain = "| 95 % of dense's gain (val. loss 0.1010, FID 9.20) | 2,000 | none | | |"
    assert gain in text and "lotr-r4 (75): 26.7 | none | none |" in text
    assert "`superlora-diff sweep --config front-base/sweep.yaml`: dense, lora-r1" in text
    with Image.open(out / "front.png") as picture:
        assert picture.size == (2340, 780) and len(picture.convert("L").getcolors(256)) > 20
    assert not (out / "front-samples.png").exists()


def test_the_base_loss_is_measured_or_said_to_be_unknown(sweep, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("make_front.draw", lambda *given: None)
    monkeypatch.setattr("superlora_diffusion.training.untrained.untrained_loss", lambda config: 0.25)
    assert run(sweep, "--out", tmp_path / "out") == 0
    assert "| base | | 0 | | | 0.2500 |" in (tmp_path / "out" / "front.md").read_text()

    def refuse(config):
        raise DataError("no such file")

    monkeypatch.setattr("superlora_diffusion.training.untrained.untrained_loss", refuse)
    assert run(sweep, "--out", tmp_path / "out") == 0
    assert "cannot be measured here: no such file" in capsys.readouterr().err
    text = (tmp_path / "out" / "front.md").read_text()
    assert (
        "| base | | 0 | | | | 4.000 |" in text
        and "gain: val. loss of the base not known, or no gain |" in text
    )


def test_errors_are_told_without_a_traceback(sweep, tmp_path, capsys):
    assert run(tmp_path, "--out", tmp_path / "out") == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} has no results.csv")
    words = [sweep, "--out", tmp_path / "out", "--base-loss", "none"]
    assert run(*words, "--pictures", "lora-r9") == 1
    assert "--pictures names lora-r9; the runs with scores are of" in capsys.readouterr().err
    for wrong in (["--base-loss", "nan"], ["--family", "a=b"], ["--family", "=lora"]):
        with pytest.raises(SystemExit) as stopped:
            run(*words, *wrong)
        assert stopped.value.code == 2


def test_lines_and_labels_of_the_plot(ratios):
    from front.draw import draw_front, line_of

    made = [
        setting(ratios, "lora-r8", 800, 0.2, 2.0, 3.0, family="lora"),
        setting(ratios, "lora-r1", 100, 0.1, 3.0, 4.0, family="lora"),
        setting(ratios, "small", 10, 0.3, None, 5.0),
        setting(ratios, "dominated", 20, 0.4, 2.0, 6.0),
        setting(ratios, "big", 90, 0.1, 1.0, 1.0),
        setting(ratios, "norms", 50, 0.2, 1.0, 2.0, family="baseline"),
    ]
    assert [one.name for one in line_of(made, "lora", "val_loss")] == ["lora-r1", "lora-r8"]
    assert [one.name for one in line_of(made, "superlora", "val_loss")] == ["small", "big"]
    assert [one.name for one in line_of(made, "superlora", "is_distance")] == ["dominated", "big"]
    assert line_of(made, "baseline", "val_loss") == []
    figure = draw_front(made, {"fid": 70.0}, "caption")
    loss, distance, fid = figure.axes
    assert [axes.get_xscale() for axes in figure.axes] == ["log"] * 3
    assert "base 70" in fid.get_title() and "base" not in loss.get_title()
    labels = [text.get_text() for text in loss.texts]
    assert "norms\n50" in labels and "big\n90" in labels and not any("dominated" in label for label in labels)
    lines = {one.get_gid(): one.get_xdata().tolist() for one in distance.lines if one.get_gid()}
    assert lines["line-superlora"] == [20, 90] and lines["line-lora"] == [100, 800]


def test_rows_of_pictures_lie_below_each_other():
    from front.pictures import lay_out

    colours = {"real": 40, "base": 120, "ours\n75": 200}
    rows = {name: np.full((4, 16, 16, 1), colour, np.uint8) for name, colour in colours.items()}
    sheet = np.asarray(lay_out(rows, ["a", "b", "c", "d"]))
    assert sheet.shape[0] == 3 * 50 + 2 + 16
    middle = [sheet[16 + 26 + 50 * row, -26 - 50 * column, 0] for row in range(3) for column in range(4)]
    assert middle == [colour for colour in colours.values() for _ in range(4)]
    assert (sheet[:, :40] < 128).any()  # labels at the left


def test_the_best_of_ours(ratios):
    from front.page import best_of_ours
    from make_front import picture_names

    lora = setting(ratios, "lora-r8", 800, 0.2, 2.0, 3.0, family="lora")
    ours = [setting(ratios, "a", 50, 0.2, 2.0, 3.0), setting(ratios, "b", 99, 0.1, 9.0, 1.0)]
    assert best_of_ours([lora, *ours]) == "a" and best_of_ours(ours) == "b" and best_of_ours([lora]) is None
    assert picture_names("auto", [lora, *ours]) == ["lora-r8", "a"]
    assert picture_names("auto", [lora]) == ["lora-r8"] and picture_names("x, y", []) == ["x", "y"]
