"""Scores while a run trains: they are eval-is's, they change nothing, and the best step is kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from superlora_diffusion.errors import ConfigError, EvaluationError
from superlora_diffusion.evaluation.evaluate import Request, evaluate_run
from superlora_diffusion.evaluation.features import stream_features
from superlora_diffusion.evaluation.protocol import make_protocol, score_model
from superlora_diffusion.runs.config import RunConfig
from superlora_diffusion.runs.loading import load_config
from superlora_diffusion.runs.source import open_source
from superlora_diffusion.training.scoring import Best, IntervalScores, keep_best, numbers_of, read_best

SCORED = {"every": 2, "interval_images": 8, "splits": 2, "metrics": ("fid", "accuracy")}
FAST = {"learning_rate": 0.05, "steps": 6}


def lines(config, key):
    rows = [json.loads(line) for line in (Path(config.output) / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row[key] for row in rows if key in row}


def weights_in(folder):
    return load_file(Path(folder) / "adapter_model.safetensors")


@pytest.fixture
def scripted(monkeypatch):
    """Scoring gives the listed values of one score in turn; an exception in the list is raised."""

    real = IntervalScores.measure

    def use(name, *values):
        left = list(values)

        def measure(self, trainee):
            value = left.pop(0)
            if isinstance(value, BaseException):
                raise value
            return dataclasses.replace(real(self, trainee), **{name: value})

        monkeypatch.setattr(IntervalScores, "measure", measure)

    return use


def test_the_last_interval_is_what_eval_is_measures(config, train):
    made = config(evaluation=SCORED, train=FAST)
    train(made)
    fids, accuracies = lines(made, "fid"), lines(made, "accuracy")
    assert sorted(fids) == sorted(accuracies) == [2, 4, 6] and len(set(fids.values())) == 3
    assert set(lines(made, "scored_images").values()) == {8}
    (record,) = evaluate_run(made.output, Request(images=8, only="adapter"), [])
    assert fids[6] == pytest.approx(record.fid, rel=1e-4) and accuracies[6] == record.accuracy


def test_the_best_step_is_kept_with_the_weights_that_were_scored(config, train):
    made = config(evaluation=SCORED, train=FAST)
    train(made)
    fids = lines(made, "fid")
    folder = Path(made.output) / "best"
    best = read_best(folder)
    assert best.by == "fid" and best.step == min(fids, key=fids.get) and best.score == fids[best.step]
    assert best.scores["accuracy"] == lines(made, "accuracy")[best.step]
    source = open_source(str(folder))
    settings = made.evaluation.model_copy(update={"images": 8})
    protocol = make_protocol(source.base, made, settings)
    with source.adapter.cached():
        assert score_model(source.base, protocol, ("fid",)).fid == pytest.approx(best.score, rel=1e-4)


def test_scoring_changes_nothing_of_the_training(config, train):
    plain, scored = config("plain", train=FAST), config("scored", train=FAST, evaluation=SCORED)
    train(plain)
    train(scored)
    assert lines(plain, "loss") == lines(scored, "loss")
    before, after = (weights_in(f"{run.output}/adapter") for run in (plain, scored))
    assert all(torch.equal(before[name], after[name]) for name in before) and before
    assert not (Path(plain.output) / "best").exists()


@pytest.mark.parametrize(
    ("by", "values", "step"),
    [
        ("fid", (5.0, 3.0, 4.0), 4),
        ("fid", (3.0, 3.0, 3.0), 2),
        ("kid", (0.1, -0.1, 0.0), 4),
        ("accuracy", (0.2, 0.4, 0.9), 6),
        ("recall", (0.5, 0.4, 0.2), 2),
        ("is_distance", (2.0, 1.0, 0.5), 6),
        ("is_mean", (2.0, 1.0, 0.5), 2),
    ],
)
def test_each_score_knows_its_direction_and_the_earlier_of_equals_stays(
    config, train, scripted, by, values, step
):
    scripted(by, *values)
    made = config(evaluation={**SCORED, "best_by": by})  # measured, although metrics does not name it
    train(made)
    best = read_best(Path(made.output) / "best")
    assert (best.step, best.by, best.score) == (step, by, values[step // 2 - 1])


def test_the_best_survives_an_interruption_and_a_resume(config, train, scripted):
    made = config(evaluation=SCORED, checkpoint={"every": 2}, train=FAST)
    scripted("fid", 1.0, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train(made)
    best, kept = read_best(Path(made.output) / "best"), weights_in(Path(made.output) / "best")
    assert best.step == 2
    scripted("fid", 3.0, 2.0)
    train(made)
    assert read_best(Path(made.output) / "best") == best
    after = weights_in(Path(made.output) / "best")
    assert all(torch.equal(kept[name], after[name]) for name in kept)
    assert lines(made, "fid") == {2: 1.0, 4: 3.0, 6: 2.0}
    last = weights_in(Path(made.output) / "adapter")
    assert not all(torch.equal(kept[name], last[name]) for name in kept)


def test_the_validation_loss_can_decide_without_drawing(config, train, monkeypatch):
    monkeypatch.setattr(IntervalScores, "__init__", lambda *args: pytest.fail("scored"))
    made = config(evaluation={"best_by": "validation_loss"}, validation={"every": 2}, train=FAST)
    train(made)
    losses = lines(made, "validation_loss")
    best = read_best(Path(made.output) / "best")
    assert best.step == min(losses, key=losses.get) and best.score == losses[best.step] and len(losses) == 3


@pytest.mark.parametrize("method", ["full", "bitfit"])
def test_the_best_of_other_methods_is_kept_as_what_they_leave(config, train, method):
    made = config(method=method, evaluation=SCORED)
    train(made)
    folder = Path(made.output) / "best"
    source = open_source(str(folder))
    assert read_best(folder).step in (2, 4, 6)
    assert (source.adapter is None) == (method == "full")
    assert (folder / ("unet" if method == "full" else "adapter_config.json")).exists()


def test_only_scores_of_one_kind_are_compared(tmp_path):
    first = Best(2, "fid", 1.0, "N 8", {"fid": 1.0})
    assert first.beats(None) and not dataclasses.replace(first, score=2.0).beats(first)
    assert dataclasses.replace(first, score=2.0, measured="N 16").beats(first)
    assert dataclasses.replace(first, by="accuracy", score=0.1).beats(first)
    assert keep_best(tmp_path / "best", first, lambda folder: (folder / "weights").write_text("1"))
    worse = dataclasses.replace(first, step=4, score=2.0)
    assert not keep_best(tmp_path / "best", worse, lambda folder: pytest.fail("written"))

    def broken(folder):
        (folder / "weights").write_text("2")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep_best(tmp_path / "best", dataclasses.replace(first, step=4, score=0.5), broken)
    assert read_best(tmp_path / "best") == first and (tmp_path / "best/weights").read_text() == "1"
    (tmp_path / "best/best.json").write_text("{")
    assert read_best(tmp_path / "best") is None


def test_what_cannot_be_scored_is_told_before_the_first_step(config, train, tmp_path):
    made = config(evaluation={**SCORED, "best_by": "accuracy"}, base={"path": str(unconditional(tmp_path))})
    with pytest.raises(ConfigError, match=r"evaluation\.best_by: got 'accuracy': no classes were asked for"):
        train(made)
    with pytest.raises(EvaluationError, match="cannot be scored"):
        train(config("b", evaluation={**SCORED, "splits": 8, "interval_images": 8}, data=few(tmp_path)))
    with pytest.raises(ConfigError, match=r"interval_images: got 4 for 5 splits"):
        config("c", evaluation={**SCORED, "interval_images": 4, "splits": 5})
    with pytest.raises(ConfigError, match="best_by"):
        config("d", evaluation={"best_by": "loss"})
    assert not any((tmp_path / name / "metrics.jsonl").exists() for name in ("run", "b"))


def unconditional(folder):
    from tiny import write_base

    return write_base(folder / "free", classes=0)


def few(folder):
    from tiny import write_data

    return {"name": f"npz:{write_data(folder / 'few.npz', test=4)}"}


def test_the_section_may_be_called_eval(tmp_path):
    assert RunConfig(output="x", eval={"every": 3}).evaluation.every == 3
    with pytest.raises(ConfigError, match="another name of evaluation"):
        RunConfig(output="x", eval={"every": 3}, evaluation={})
    (tmp_path / "a.yaml").write_text("output: x\neval: {every: 5, images: 20}\n")
    found = load_config(str(tmp_path / "a.yaml"), ["eval.every=7", "evaluation.best_by=kid"]).evaluation
    assert (found.every, found.images, found.best_by) == (7, 20, "kid")
    assert load_config("demo", ["eval.every=null", "eval.metrics=[is]"]).evaluation.metrics == ("is",)
    with pytest.raises(ConfigError, match=r"evaluation\.evry: unknown name 'evry'. Did you mean 'every'"):
        load_config("demo", ["eval.evry=7"])


def test_scores_that_were_not_measured_are_no_numbers(extractor_rows):
    found = numbers_of(extractor_rows)
    assert set(found) == {"fid"}


@pytest.fixture
def extractor_rows():
    import numpy as np

    from superlora_diffusion.evaluation.extractors import load_extractor
    from superlora_diffusion.evaluation.scores import score_features

    extractor = load_extractor("digits")
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    rows = stream_features([images], None, extractor)
    return score_features(rows, rows, extractor, splits=2, metrics=["fid"])
