"""The learning-rate search: hill climbing that ends at the best rung, and real short runs."""

from __future__ import annotations

import json
import math

import pytest

from superlora_diffusion.errors import DivergedError, RunError
from superlora_diffusion.runs.config import RunConfig
from superlora_diffusion.sweeps.cells import list_cells
from superlora_diffusion.sweeps.config import LearningRateSearch
from superlora_diffusion.sweeps.race import choose, next_rate, race_key, read_race, run_race


def climb(loss, start=0.01, untrained=math.inf, **search):
    """All tries of a search on a known loss, in order."""
    search = LearningRateSearch(**{"max_tries": 20, "tolerance": 0, **search})
    losses = {}
    while (rate := next_rate(losses, start, search, untrained)) is not None:
        assert rate not in losses
        losses[rate] = loss(rate)
    return losses


@pytest.mark.parametrize("best", [-4, -1, 0, 1, 5])
def test_the_search_ends_at_the_best_rung_with_a_neighbour_on_either_side(best):
    losses = climb(lambda rate: abs(math.log2(rate / 0.01) - best - 0.1))
    winner = min(losses, key=losses.get)
    assert winner == pytest.approx(0.01 * 2.0**best, rel=1e-3)
    for neighbour in (winner / 2, winner * 2):
        assert any(rate == pytest.approx(neighbour, rel=1e-3) for rate in losses)
    assert len(losses) == 3 + max(0, abs(best))  # no try is wasted


def test_the_search_goes_down_while_everything_diverges():
    losses = climb(lambda rate: math.inf if rate > 0.002 else rate)
    assert min(losses) < 0.002 and math.isinf(losses[0.02])
    assert len(climb(lambda rate: math.inf, max_tries=5)) == 5


def test_the_rate_that_is_chosen_has_a_lower_neighbour_too():
    loss = {-3: 0.5, -2: 0.104, -1: 0.103, 0: 0.102, 1: 0.1, 2: 0.2}
    losses = climb(lambda rate: loss[round(math.log2(rate / 0.01))], untrained=1.1, tolerance=0.005)
    assert choose(losses, 0.005, 1.1) == 0.0025 and 0.00125 in losses


def test_no_more_than_max_tries():
    assert len(climb(lambda rate: -rate, max_tries=4)) == 4


def test_the_lowest_rate_wins_that_misses_little_of_the_gain():
    losses = {0.01: 0.120, 0.02: 0.1019, 0.04: 0.100, 0.08: 0.1005, 0.16: math.inf}
    assert choose(losses, 0.02, untrained=0.3) == 0.02  # 0.0019 of a gain of 0.2
    assert choose(losses, 0.02, untrained=0.15) == 0.04  # of a gain of 0.05
    assert choose(losses, 0, untrained=0.3) == choose(losses, 0.02, untrained=0.09) == 0.04


class Trainer:
    """Stands in for training: writes the metrics of a run whose loss is known."""

    def __init__(self, loss):
        self.loss, self.runs = loss, []

    def __call__(self, config: RunConfig):
        self.runs.append(config)
        loss = self.loss(config.learning_rate)
        if math.isinf(loss):
            raise DivergedError("the loss became nan before step 3.")
        from pathlib import Path

        Path(config.output).mkdir(parents=True)
        text = (
            json.dumps({"step": 1, "validation_loss": 9.0})
            + "\n"
            + json.dumps({"step": 4, "validation_loss": loss})
        )
        (Path(config.output) / "metrics.jsonl").write_text(text + "\n")


@pytest.fixture
def config(make_sweep):
    return list_cells(make_sweep())[0].config


def untrained(config):
    return 0.02


def test_a_race_reports_winner_tries_and_cost_and_is_not_run_twice(config, tmp_path):
    search = LearningRateSearch(steps=4, start=0.01)
    trainer = Trainer(lambda rate: math.inf if rate > 0.03 else abs(rate - 0.02))
    result = run_race(config, search, tmp_path, trainer, untrained)
    assert result.learning_rate == 0.02 and result.tried == {0.005: 0.015, 0.01: 0.01, 0.02: 0.0, 0.04: None}
    assert result.steps == 16
    assert {run.train.steps for run in trainer.runs} == {4} and {
        run.preview.every for run in trainer.runs
    } == {None}
    assert read_race(tmp_path, search) == result
    assert run_race(config, search, tmp_path, None, None) == result
    assert read_race(tmp_path, LearningRateSearch(steps=5, start=0.01)) is None


def test_a_race_that_was_broken_off_goes_on_and_its_cost_is_that_of_all_tries(config, tmp_path, monkeypatch):
    search = LearningRateSearch(steps=4, start=0.01)
    clock = iter(range(0, 1000, 5))
    monkeypatch.setattr("superlora_diffusion.sweeps.race.time.perf_counter", lambda: next(clock))

    class Stopped(Exception):
        pass

    def stops_at_the_third(run):
        if len(trainer.runs) == 2:
            raise Stopped
        trainer(run)

    trainer = Trainer(lambda rate: abs(rate - 0.01))
    with pytest.raises(Stopped):
        run_race(config, search, tmp_path, stops_at_the_third, untrained)
    again = Trainer(lambda rate: abs(rate - 0.01))
    result = run_race(config, search, tmp_path, again, untrained)
    assert [run.learning_rate for run in again.runs] == [0.005] and len(result.tried) == 3
    assert result.seconds == 15  # five each, by the clock above


def test_the_default_rate_of_the_method_comes_first(config, tmp_path):
    trainer = Trainer(lambda rate: rate)
    run_race(config, LearningRateSearch(steps=4, max_tries=1), tmp_path, trainer, untrained)
    assert trainer.runs[0].learning_rate == config.learning_rate == 0.02


def test_all_diverged_is_an_error_and_other_errors_are_not_divergence(config, tmp_path):
    search = LearningRateSearch(steps=4, max_tries=3)
    with pytest.raises(RunError, match=r"all learning rates diverged: 0\.02, 0\.04, 0\.01"):
        run_race(config, search, tmp_path / "a", Trainer(lambda rate: math.inf), untrained)

    def in_use(config):
        raise RunError("the folder is in use")

    with pytest.raises(RunError, match="in use"):
        run_race(config, search, tmp_path / "b", in_use, untrained)


def test_a_race_is_known_by_what_it_depends_on(make_sweep):
    search = LearningRateSearch(steps=4)

    def key(search=search, **values):
        return race_key(list_cells(make_sweep(set=values))[0].config, search)

    alike = [key(), key(**{"evaluation.images": 6}), key(search=LearningRateSearch(steps=4, factor=3))]
    assert len(set(alike)) == 1
    seeds = [race_key(cell.config, search) for cell in list_cells(make_sweep(seeds=[0, 1]))]
    assert set(seeds) == set(alike)
    other = [
        key(**{"adapter.rank": 3}),
        key(**{"train.batch_size": 5}),
        key(search=LearningRateSearch(steps=5)),
    ]
    assert len({*other, *alike}) == 4
