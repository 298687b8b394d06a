"""The tables: values, means and deviations against numpy, both formats equal."""

from __future__ import annotations

import csv

import numpy as np
import pyarrow.parquet
import pytest

from superlora_diffusion.sweeps.results import COLUMNS
from superlora_diffusion.sweeps.table import summarise, write_tables

ISSUE_COLUMNS = "setting,family,target,parameters,seed,lr,steps,val_loss,is_distance,fid,kid,accuracy"


EXTRA = ["is_mean", "is_stderr", "precision", "recall", "head_parameters", "race_steps", "race_seconds"]


def row(setting, seed, fid, **values):
    base = {"setting": setting, "family": "lora", "target": "mnist", "parameters": 10, "seed": seed, "lr": 0.02,
            "steps": 5, "val_loss": 0.1 * seed, "is_distance": 1.0, "fid": fid, "kid": None, "accuracy": 0.5,
            **dict.fromkeys(EXTRA, 2.0), "race_steps": 300, "head_parameters": 7}  # fmt: skip
    return {**base, **values}


ROWS = [row("a", 0, 1.0), row('b, "odd"', 0, None), row("a", 1, 4.0), row("a", 2, 2.5)]


def test_means_and_sample_deviations_over_seeds_keep_what_is_missing_missing():
    first, second = summarise(ROWS)
    assert (first["setting"], first["seeds"], second["seeds"]) == ("a", 3, 1)
    assert first["fid"] == pytest.approx(np.mean([1.0, 4.0, 2.5]))
    assert first["fid_std"] == pytest.approx(np.std([1.0, 4.0, 2.5], ddof=1))
    assert first["val_loss_std"] == pytest.approx(0.1) and first["is_distance_std"] == 0
    assert second["fid"] is None and second["is_distance_std"] is None and first["kid"] is None


def test_csv_and_parquet_hold_the_same_rows_under_the_promised_columns(tmp_path):
    write_tables(tmp_path, ROWS)
    with (tmp_path / "results.csv").open(newline="") as file:
        header, *lines = list(csv.reader(file))
    assert ",".join(header[:12]) == ISSUE_COLUMNS == ",".join(COLUMNS) and header[12:] == EXTRA
    table = pyarrow.parquet.read_table(tmp_path / "results.parquet")
    assert table.column_names == header and table.to_pylist() == ROWS
    assert [line[0] for line in lines] == ["a", 'b, "odd"', "a", "a"]
    assert [line[9] for line in lines] == ["1", "", "4", "2.5"]
    summary = pyarrow.parquet.read_table(tmp_path / "summary.parquet").to_pylist()
    assert [line["setting"] for line in summary] == ["a", 'b, "odd"']


def test_tables_of_no_run_are_empty_and_not_missing(tmp_path):
    write_tables(tmp_path, [])
    assert (tmp_path / "results.csv").read_text().replace('"', "").strip().startswith(ISSUE_COLUMNS)
