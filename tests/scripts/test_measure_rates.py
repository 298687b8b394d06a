"""Learning rates measured: which runs are made, what a table says, and which single rate is the least bad."""

from __future__ import annotations

import csv
import math

import pytest

from superlora_diffusion.errors import ConfigError, DivergedError


@pytest.fixture
def script():
    import measure_rates

    return measure_rates


@pytest.fixture
def summary():
    import rates_summary

    return rates_summary


def rows_of(summary, curves, step="rms", seed=0, steps=600):
    return [
        summary.Row(name, step, 10, rate, steps, seed, loss)
        for name, curve in curves.items()
        for rate, loss in curve.items()
    ]


def test_rates_are_three_digits_and_include_both_ends(script):
    assert script.rates_between(1e-3, 1.0, "sqrt10") == [0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0]
    assert script.rates_between(1e-3, 9e-3, "2") == [0.001, 0.002, 0.004, 0.008]
    assert len(script.rates_between(1e-3, 1.0, "2")) == 10
    assert script.rates_between(0.5, 0.5, "2") == [0.5]
    for low, high, factor in [(1, 2, "1"), (1, 2, "sqrtx"), (1, 2, "inf"), (0, 2, "2"), (2, 1, "2")]:
        with pytest.raises(ConfigError, match="is accepted"):
            script.rates_between(low, high, factor)


def test_every_setting_is_legal_and_another_one(script):
    from superlora_diffusion.runs.loading import load_config

    assert len(script.SETTINGS) >= 10
    made = {name: load_config("demo", overrides).adapter for name, overrides in script.SETTINGS.items()}
    counts = {name: script.count("demo", overrides) for name, overrides in script.SETTINGS.items()}
    assert len(set(made.values())) == len(made) and len(set(counts.values())) == len(counts)
    assert made["one-vector"].order == 1 and made["one-vector"].groups == 1


def planned(script, out, *words):
    return list(script.plan_work(script.parse_options(["--out", str(out), *words]), out))


def test_only_what_the_table_lacks_is_run(script, summary, tmp_path):
    words = [
        "--settings",
        "dense,lokr",
        "--rules",
        "rms,gain",
        "--low",
        "0.01",
        "--high",
        "0.1",
        "--factor",
        "10",
    ]
    work = planned(script, tmp_path, *words, "--seeds", "0,3")
    assert len(work) == len({one.row[:-1] for one in work}) == len({one.folder for one in work}) == 16
    for one in work:
        assert f"adapter.step={one.row.step}" in one.overrides and f"seed={one.row.seed}" in one.overrides
        assert f"train.learning_rate={one.row.learning_rate}" in one.overrides
    table = tmp_path / "rates.csv"
    for one, loss in zip(work[:5], (0.5, math.inf, 0.3, 0.2, 0.1), strict=True):
        script.append_row(table, one.row._replace(val_loss=loss))
    assert [row.val_loss for row in script.read_rows(table)] == [0.5, math.inf, 0.3, 0.2, 0.1]
    with table.open() as file:
        assert next(csv.reader(file)) == [
            "setting",
            "step",
            "parameters",
            "learning_rate",
            "steps",
            "seed",
            "val_loss",
        ]
    again = planned(script, tmp_path, *words, "--seeds", "0,3")
    assert [one.row[:-1] for one in again] == [one.row[:-1] for one in work[5:]]
    assert len(planned(script, tmp_path, *words, "--steps", "7")) == 8


def test_a_line_that_was_cut_off_is_run_again(script, summary, tmp_path):
    table = tmp_path / "rates.csv"
    rows = rows_of(summary, {"a": {0.1: 0.5, 0.2: 0.25, 0.4: 0.125}})
    script.append_row(table, rows[0])
    with table.open("a") as file:
        file.write("a,rms,10,0.2,60")
    assert script.read_rows(table) == rows[:1]
    script.append_row(table, rows[2])
    assert script.read_rows(table) == [rows[0], rows[2]]


def test_other_overrides_do_not_share_a_folder(script, tmp_path):
    options = script.parse_options(["--out", str(tmp_path), "train.batch_size=8"])
    script.check_protocol(tmp_path, options)
    script.check_protocol(tmp_path, options)
    with pytest.raises(ConfigError, match=r"train.batch_size=8.*batch_size=9.*another --out"):
        script.check_protocol(tmp_path, script.parse_options(["--out", str(tmp_path), "train.batch_size=9"]))


@pytest.mark.parametrize(
    ("raised", "loss", "expected"), [(True, None, math.inf), (False, math.nan, math.inf), (False, 0.3, 0.3)]
)
def test_a_diverged_run_is_infinite(script, monkeypatch, tmp_path, raised, loss, expected):
    from superlora_diffusion.sweeps import results
    from superlora_diffusion.training import loop

    def train(config, **_):
        assert config.output == str(tmp_path / "run") and config.train.learning_rate == 0.25
        if raised:
            raise DivergedError("the loss became nan")

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(results, "last_validation_loss", lambda run: loss)
    overrides = ("adapter.variant=lora", "train.learning_rate=0.25")
    assert script.do(script.Work(None, str(tmp_path / "run"), "demo", overrides, "auto")) == expected


CURVES = {
    "a": {0.1: 0.50, 0.2: 0.40, 0.4: 0.41},
    "b": {0.1: 0.30, 0.2: 0.33, 0.4: math.inf, 0.8: 0.2},
    "c": {0.1: 0.61, 0.2: 0.60, 0.4: 0.70},
}


def test_the_single_rate_is_the_least_bad_for_the_worst_setting(summary):
    curves = summary.curves_of(rows_of(summary, CURVES))["rms"]
    best = {name: summary.best_of(curve) for name, curve in curves.items()}
    assert best == {"a": (0.2, 0.40), "b": (0.8, 0.2), "c": (0.2, 0.60)}
    single = summary.single_rate(curves, {name: loss for name, (_, loss) in best.items()})
    assert single.rate == 0.1  # at most 50 % above, where 0.2 has b 65 % above; 0.8 is not a's
    assert single.excess == pytest.approx({"a": 0.25, "b": 0.5, "c": 0.61 / 0.60 - 1})
    assert single.worst == pytest.approx(0.5)
    assert summary.single_rate({"a": {0.1: 1.0}, "b": {0.2: 1.0}}, {"a": 1.0, "b": 1.0}) is None
    assert math.isinf(summary.single_rate({"a": {0.1: math.inf}}, {"a": math.inf}).worst)


def test_curves_are_means_over_seeds_where_all_are_there(summary):
    rows = rows_of(summary, {"a": {0.1: 0.5, 0.2: 0.4}}) + rows_of(
        summary, {"a": {0.1: 0.7, 0.4: 0.1}}, seed=1
    )
    assert summary.curves_of(rows)["rms"]["a"] == {0.1: pytest.approx(0.6)}
    rows += rows_of(summary, {"a": {0.2: math.inf}}, seed=1)
    assert summary.curves_of(rows)["rms"]["a"][0.2] == math.inf


def test_the_summary_tells_bests_edges_and_excesses(summary, tmp_path):
    rows = rows_of(summary, CURVES) + rows_of(summary, {"a": {0.1: 0.2}, "d": {0.1: math.inf}}, step="gain")
    text = summary.summarise(rows, tmp_path)
    assert (tmp_path / "summary.md").read_text() == text + "\n"
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    rms, gain = text.split("## step gain")
    assert "best single rate is 0.1: at most 50.00 % above each setting's own best, 150.00 % above" in rms
    assert "| a | 10 | 0.2 | 0.40000 | 0.50000 | 25.00 % |" in rms
    assert "| b | 10 | 0.8 (at the edge) | 0.20000 | 0.30000 | 50.00 % |" in rms
    assert "| d | 10 | 0.1 (at the edge) | inf | inf | inf % |" in gain


def test_a_settings_own_targets_stay_under_an_override_of_all(script, tmp_path):
    from superlora_diffusion.runs.loading import load_config

    words = ["--out", str(tmp_path), "--settings", "lora-r8,lora-r8-all", "--rules", "gain", "--low", "0.01"]
    options = script.parse_options([*words, "--high", "0.01", "adapter.targets=[to_q]"])
    own, whole = script.plan_work(options, tmp_path)
    targets = [
        load_config(one.config, list(one.overrides), output="x").adapter.targets for one in (own, whole)
    ]
    assert targets == [("to_q",), ("**",)] and whole.row.parameters > 10 * own.row.parameters
