"""CSV and LaTeX: the runs' values, and names that stay names."""

import csv
import io
import re

import pytest

from superlora_diffusion.report.collect import collect
from superlora_diffusion.report.compare import make_views
from superlora_diffusion.report.tables import COLUMNS, escape_latex, write_csv, write_latex

from .material import SEEDS, SETTINGS, make_record, write_data, write_run


def read_csv(runs):
    return list(csv.DictReader(io.StringIO(write_csv(runs))))


def test_csv_has_a_row_a_run_with_its_values_in_full(sweep):
    rows = {(row["setting"], row["seed"]): row for row in read_csv(collect([sweep]).runs)}
    assert len(rows) == len(SETTINGS) * len(SEEDS) + 2
    for setting, (_, parameters, distance) in SETTINGS.items():
        for seed in SEEDS:
            row = rows[setting, str(seed)]
            assert (
                float(row["is_distance"]) == distance + 0.02 * seed and int(row["parameters"]) == parameters
            )
            assert float(row["fid"]) == 10 * (distance + 0.02 * seed) and float(row["lr"]) == 0.02
            assert float(row["val_loss"]) == pytest.approx(0.09 + 4 / 530 + 0.001 * seed) and row["kid"] == ""
    assert (
        rows["broken-off", "0"]["status"] == "not finished" and rows["broken-off", "0"]["is_distance"] == ""
    )
    wanted = "setting,family,target,parameters,seed,lr,steps,val_loss,is_distance,fid,kid,accuracy"
    assert ",".join(COLUMNS).startswith(wanted)


def test_csv_keeps_names_whole(tmp_path):
    name = 'a,"b"\nc'
    write_run(tmp_path / "r", write_data(tmp_path / "d.npz"), setting=name, record=make_record("r", 5, 1.0))
    assert [row["setting"] for row in read_csv(collect([tmp_path]).runs)] == [name]


def test_latex_has_a_row_a_setting(sweep):
    view = make_views(collect([sweep]))[0]
    text = write_latex(view, "Fronts & co")
    body = text.split("\\midrule")[1]
    rows = [row.strip().removesuffix(r"\\").split(" & ") for row in body.strip().splitlines()]
    assert [row[0] for row in rows] == list(SETTINGS)
    dense = dict(zip(("name", "family", "count", "distance"), rows[-1], strict=False))
    assert dense["count"] == "63{,}488" and dense["distance"] == r"$\mathbf{0.0600} \pm 0.0141$"
    assert text.count(r"\mathbf") == 4 + len(SETTINGS)  # the best of each; in the loss all are equal
    assert r"\caption{Fronts \& co." in text and "tiny-base & base & 0 & 4.9000" in text
    assert text.count("{") == text.count("}") and text.count(r"\begin") == text.count(r"\end") == 2
    assert all(len(row) == 3 + 5 for row in rows) and "{llrrrrrr}" in text


def test_latex_prints_any_name():
    assert escape_latex(r"50%_of {$\x^~}&#") == (
        r"50\%\_of \{\$\textbackslash{}x\textasciicircum{}\textasciitilde{}\}\&\#"
    )
    bare = re.compile(r"(?<!\\)[%_$&#]")
    assert not bare.search(escape_latex("a%b_c$d&e#f"))
    assert escape_latex('<|>"') == r"\textless{}\textbar{}\textgreater{}\textquotedbl{}"
