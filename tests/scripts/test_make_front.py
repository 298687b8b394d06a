"""The front: what is written."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from superlora_diffusion.errors import DataError

from .front_sweeps import COLUMNS, PROTOCOL, line, record, write_scores, write_sweep


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


def test_targets_come_one_after_another_each_with_its_own_tables_and_plot(sweep, tmp_path, capsys):
    rows = [line("lora-r8", s, 1500, 0.3, 2.0, 9.0, target="npz:in/my digits.npz") for s in (0, 1)]
    usps = write_sweep(tmp_path / "front-usps", rows, **PROTOCOL, **{"data.name": "npz:in/my digits.npz"})
    out = tmp_path / "out"
    assert run(usps, sweep, "--out", out, "--base-loss", "none") == 0
    with (out / "front.csv").open() as file:
        targets = [row["target"] for row in csv.DictReader(file)]
    assert targets == ["npz:in/my digits.npz"] * 2 + ["mnist-mini"] * 10
    first, second = (out / "front.md").read_text().split("## mnist-mini\n")
    assert first.startswith("## npz:in/my digits.npz\n") and "0.3000" in first and "lotr-r4" not in first
    assert "lotr-r4 | 75 | 20.0" in second and "0.3000" not in second
    assert sorted(path.name for path in out.glob("*.png")) == ["front-mnist-mini.png", "front.png"]
    capsys.readouterr()
    assert run(usps, sweep, "--out", out, "--base-loss", 0.5) == 2
    assert (
        "got --base-loss 0.5 for several targets: npz:in/my digits.npz, mnist-mini."
        in capsys.readouterr().err
    )


def test_files_of_one_name_in_other_folders_have_a_plot_each(sweep, tmp_path):
    sweeps = [sweep]
    for folder in ("a", "b", "c"):
        rows = [line("lora-r8", 0, 1500, 0.3, 2.0, 9.0, target=f"npz:{folder}/digits.npz")]
        told = {**PROTOCOL, "data.name": f"npz:{folder}/digits.npz"}
        sweeps.append(write_sweep(tmp_path / f"front-{folder}", rows, **told))
    assert run(*sweeps, "--out", tmp_path / "out", "--base-loss", "none") == 0
    plots = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert plots == ["front-digits-2.png", "front-digits-3.png", "front-digits.png", "front.png"]


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


def test_rows_of_pictures_lie_below_each_other():
    from front.pictures import lay_out

    colours = {"real": 40, "base": 120, "ours\n75": 200}
    rows = {name: np.full((4, 16, 16, 1), colour, np.uint8) for name, colour in colours.items()}
    sheet = np.asarray(lay_out(rows, ["a", "b", "c", "d"]))
    assert sheet.shape[0] == 3 * 50 + 2 + 16
    middle = [sheet[16 + 26 + 50 * row, -26 - 50 * column, 0] for row in range(3) for column in range(4)]
    assert middle == [colour for colour in colours.values() for _ in range(4)]
    assert (sheet[:, :40] < 128).any()  # labels at the left
