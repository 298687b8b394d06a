"""The paper's experiment as a script: its counts, the rescaled ones, and a tiny run that stops and goes on."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from superlora_diffusion.adapters import count_parameters
from superlora_diffusion.report.published import PUBLISHED
from superlora_diffusion.runs.counting import targets_on
from superlora_diffusion.runs.loading import load_config
from superlora_diffusion.sweeps import runners
from superlora_diffusion.sweeps.cells import list_cells
from superlora_diffusion.sweeps.config import load_sweep
from superlora_diffusion.sweeps.jobs import do_job

from .conftest import SCRIPTS

ALL = {"mnist": "npz:m.npz", "usps": "npz:u.npz"}
BOTH = ("to-handwriting", "to-street")
TINY = [
    "train.warmup_steps=0",
    "validation.images=4",
    "preview.every=null",
    "evaluation.splits=2",
    "sampling.steps=1",
    "data.synthdigits.count_train=20",
    "data.synthdigits.count_test=20",
]


@pytest.fixture
def script(monkeypatch, tmp_path):
    """The script as a module, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    import reproduce_paper

    monkeypatch.setattr("superlora_diffusion.cli.common.set_verbosity", lambda verbose: None)
    return reproduce_paper


@pytest.fixture
def experiment(script):
    from paper import experiment

    return experiment


@pytest.fixture
def make_lines(experiment):
    def make(scale, street, handwriting, **more):
        wish = experiment.Wish(scale, BOTH, Path("out"), handwriting, street, **more)
        lines = experiment.list_lines(wish, experiment.list_moves(wish))
        return lines, experiment.make_sweep(wish, lines)

    return make


class Inline:
    """Does each job in this process; after so many it is as if someone had pressed Ctrl-C."""

    def __init__(self, stop_after=None):
        self.ended, self.submitted, self.stop_after = [], [], stop_after

    def free(self):
        return not self.ended

    def submit(self, job):
        self.submitted.append(job.name)
        self.ended.append(do_job(job))
        if len(self.submitted) == self.stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    def wait(self, seconds):
        ended, self.ended = self.ended, []
        return ended

    def stop(self):
        pass

    def close(self):
        pass


def write_digits(path, **left_out):
    """Six pictures a class, the last of each for testing."""
    generator = np.random.default_rng(0)
    arrays = {
        "images": generator.integers(0, 256, (60, 8, 8), dtype=np.uint8),
        "labels": np.arange(60) % 10,
        "split": (np.arange(60) >= 50).astype(np.int64),
    }
    np.savez(path, **{key: value for key, value in arrays.items() if key not in left_out})


# --- counts ------------------------------------------------------------------------------------------------------


def test_at_scale_gpu_the_counts_are_the_thirteen_published(make_lines):
    lines, sweep = make_lines("gpu", "svhn", {"mnist": "mnist"})
    assert [line.move.name for line in lines] == ["svhn-to-mnist"] * 14 + ["mnist-to-svhn"] * 14
    published = [565_248, *(point.parameters for point in PUBLISHED)]
    assert [line.count for line in lines] == published * 2
    assert [line.point.published for line in lines] == [None, *PUBLISHED] * 2
    bases = {line.move.path: line.move.pretraining.base for line in lines}
    assert list(bases) == ["out/base-svhn/base", "out/base-mnist/base"]
    cells = [cell.config for cell in list_cells(sweep) if cell.seed == 0]
    found = [targets_on(bases[config.base.path], config.adapter).targets for config in cells]
    counts = [count_parameters(config.adapter, each) for config, each in zip(cells, found, strict=True)]
    assert counts == published * 2, "the runs are what the lines say"


def test_at_scale_gpu_the_runs_are_those_of_the_packaged_sweeps(make_lines):
    _, sweep = make_lines("gpu", "svhn", {"mnist": "mnist"})
    ways = [list_cells(load_sweep(f"paper/sweeps/{direction}")) for direction in BOTH]
    for ours, packaged in zip(list_cells(sweep), [cell for way in ways for cell in way], strict=True):
        assert ours.name.endswith(packaged.name)
        path = packaged.config.base.path.replace("runs/paper", "out")
        base = packaged.config.base.model_copy(update={"path": path})
        assert packaged.config.model_copy(update={"base": base, "output": ours.config.output}) == ours.config
    assert sweep.learning_rate == load_sweep("paper/sweeps/to-street").learning_rate


def test_at_scale_cpu_each_share_is_matched_as_nearly_as_the_structure_allows(make_lines):
    lines, sweep = make_lines("cpu", "synthdigits", ALL, seeds=(0,))
    moves = ["synthdigits-to-mnist", "synthdigits-to-usps", "mnist-to-synthdigits"]
    assert list(dict.fromkeys(line.move.name for line in lines)) == moves
    # By hand, N = 63,488 in 20 matrices. LoRA: 2,176 r for 8,511 wanted. 8 groups of 7,936 as (124, 64): 1,504 r.
    # 4 squares of 126, rounded up to 128: 1,024 r. One of 252, to 256: 512 r. m = 7,936, sides 90: 720 r.
    # 12 groups of 5,291: sides 18, 12 (54 r + r^3); sides 9, 12 (36 r + r^4). 2 squares of 252, a sixth is 42:
    # 2 (36 + 84 r). One cube of 40: 120 r + r^3. m = 159, sides 6: 4 (18 r + r^3). Sides 10: 51; m = 635, sides 4: 21.
    by_hand = [63_488, 8_704, 7_520, 8_192, 1_024, 720, 660, 1_056, 576, 240, 121, 76, 51, 21]
    assert [line.count for line in lines] == by_hand * 3
    names = [line.setting.removeprefix(f"{line.move.name}-") for line in lines[:14]]
    assert (
        names[:3] == ["dense", "lora-r4", "g8-r5"]
        and names[5] == "square-g4-r1-half"
        and names[-1][-5:] == "rho01"
    )
    cells = list_cells(sweep)
    assert [cell.setting for cell in cells] == [line.setting for line in lines]
    for cell, line in zip(cells, lines, strict=True):
        adapter = cell.config.adapter
        assert count_parameters(adapter, targets_on(line.move.base, adapter).targets) == line.count
        kept = line.point.adapter.model_dump(exclude={"rank", "seed"})
        assert adapter.model_dump(exclude={"rank", "seed"}) == kept, "nothing but the rank is another"
    data = {cell.config.data.name for cell in cells}
    assert data == {"npz:m.npz", "npz:u.npz", "synthdigits"}
    assert {cell.config.evaluation.extractor for cell in cells} == {"digits"}


def test_the_way_back_at_scale_cpu_begins_with_the_embedded_bases_network(make_lines):
    lines, sweep = make_lines("cpu", "synthdigits", ALL, pretrain_steps=3000)
    pretraining = lines[-1].move.pretraining
    asked = ["data.name=npz:m.npz", "train.steps=3000"]
    assert pretraining == load_config("base-synthdigits-16", asked, output="out/base-16-mnist")
    assert (pretraining.method, pretraining.train.batch_size) == ("full", 64)
    assert list_cells(sweep)[-1].config.base.path == "out/base-16-mnist/base"
    assert lines[0].move.pretraining is None


def test_settings_are_chosen_by_their_published_names(make_lines):
    lines, _ = make_lines("cpu", "synthdigits", ALL, settings=("lorta-g1-m5-r1", "lora-r8"))
    assert [line.point.name for line in lines] == ["lora-r8", "lorta-g1-m5-r1"] * 3


# --- running -----------------------------------------------------------------------------------------------------


@pytest.fixture
def call(script, monkeypatch):
    """Calls the script on tiny runs; what its runner was given to do stands in ``call.runner``."""

    def run(*words, stop_after=None):
        run.runner = Inline(stop_after)
        monkeypatch.setattr(runners, "make_runner", lambda *args, **options: run.runner)
        sizes = [
            "--steps",
            "2",
            "--pretrain-steps",
            "2",
            "--batch-size",
            "4",
            "--images",
            "8",
            "--race-steps",
            "1",
        ]
        return script.main(["--scale", "cpu", "--out", "out", "--target", "mnist", *sizes, *words, *TINY])

    return run


@pytest.mark.slow
def test_a_tiny_run_stops_goes_on_and_tells_its_points_beside_the_published(call, tmp_path, capsys):
    write_digits(tmp_path / "m.npz")
    words = ("--mnist-file", "m.npz", "--settings", "lorta-g1-m5-r1", "--device", "cpu")
    assert call(*words, stop_after=2) == 130
    there, back = "synthdigits-to-mnist-lorta-g1-m5-r1", "mnist-to-synthdigits-lorta-g1-m5-r1"
    assert call.runner.submitted == [f"{there} learning rate", f"{there}-seed0"]
    said = capsys.readouterr()
    assert "1 runs are not finished. Run the same command again" in said.err
    assert "Pretraining out/base-16-mnist on npz:m.npz, 2 steps" in said.out
    base = tmp_path / "out/base-16-mnist/base/model_index.json"
    written = base.stat().st_mtime_ns
    assert call(*words) == 0
    assert call.runner.submitted == [f"{back} learning rate", f"{back}-seed0"]
    said = capsys.readouterr()
    assert "Pretraining" not in said.out and base.stat().st_mtime_ns == written
    assert f"{there}: 51 numbers, IS distance " in said.out and "(0.1131 published)" in said.out
    rows = list(csv.DictReader((tmp_path / "out/comparison-cpu.csv").read_text().splitlines()))
    assert [row["setting"] for row in rows] == [there, back]
    for row in rows:
        assert row["published_setting"] == "LoRTA G 1, M 5, rank 1"
        assert (row["published_parameters"], row["parameters"], row["seeds"]) == ("76", "51", "1")
        assert float(row["share"]) == 51 / 63_488 and float(row["published_share"]) == 76 / 565_248
        assert float(row["is_distance"]) > 0 and float(row["val_loss"]) > 0
    page = (tmp_path / "out/report-cpu.html").read_text()
    assert there in page and back in page and '"published": true' in page.replace(":true", ": true")
    plots = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert plots == ["report-cpu-mnist-to-synthdigits.png", "report-cpu-synthdigits-to-mnist.png"]
    sweep = yaml.safe_load((tmp_path / "out/cpu/sweep.yaml").read_text())
    assert sweep["learning_rate"]["steps"] == 1 and sweep["seeds"] == [0]
    assert call(*words) == 0 and call.runner.submitted == []


def test_a_failed_cell_is_told_by_the_exit_code(call, script, tmp_path, monkeypatch, capsys):
    write_digits(tmp_path / "m.npz")
    monkeypatch.setattr(script, "run", lambda sweep, options: script_result(failed={"a-seed0": "no luck"}))
    words = ("--mnist-file", "m.npz", "--direction", "to-handwriting")
    assert call(*words) == 1 and "failed: a-seed0: no luck" in capsys.readouterr().err


def script_result(**values):
    from superlora_diffusion.sweeps.sweep import Result

    return Result([], **values)


def test_ctrl_c_between_two_pieces_of_work_leaves_no_traceback(call, script, tmp_path, monkeypatch, capsys):
    write_digits(tmp_path / "m.npz")

    def press(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "pretrain", press)
    assert call("--mnist-file", "m.npz", "--settings", "dense") == 130
    said = capsys.readouterr().err
    assert said.strip() == "Stopped. Run the same command again to go on."


def test_a_dry_run_estimates_and_makes_nothing(script, tmp_path, capsys):
    words = [
        "--scale",
        "cpu",
        "--target",
        "mnist",
        "--settings",
        "lora-r8",
        "--batch-size",
        "2",
        "--images",
        "8",
    ]
    assert script.main([*words, "--dry-run", "--processes", "2", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "lora-r8        75,776  13.406%  synthdigits-to-mnist-lora-r4       8,704  13.710%" in said
    assert "To do: pretrain runs/paper/base-16-mnist, about " in said
    assert "4 jobs of the sweep, about " in said and " with 2 at once" in said
    assert not list(tmp_path.iterdir())
    assert script.main([*words[2:], "--scale", "gpu", "--dry-run", "--device", "cpu", "--quiet"]) == 0
    assert "only timed on a GPU" in capsys.readouterr().out


# --- what a user may do wrong ------------------------------------------------------------------------------------


def test_a_missing_file_is_told_before_anything_is_trained(call, tmp_path, capsys):
    assert call("--mnist-file", "gone.npz") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: gone.npz: no such file. Give its place with --mnist-file FILE.npz.")
    for word in (
        "images (N, height, width) uint8",
        "labels (N,)",
        "split (N,)",
        "mnist-mini",
        "data.download=true",
    ):
        assert word in said
    assert not (tmp_path / "out").exists()


def test_a_missing_usps_has_its_own_option(script, tmp_path, capsys):
    words = ["--scale", "cpu", "--direction", "to-handwriting", "--target", "usps", "--settings", "dense"]
    assert script.main(words) == 1
    said = capsys.readouterr().err
    assert "usps.npz: no such file. Give its place with --usps-file FILE.npz" in said and "mnist" not in said
    assert script.main([*words, "--usps-file", "elsewhere.npz"]) == 1
    assert "elsewhere.npz: no such file. Give its place with --usps-file" in capsys.readouterr().err


def test_a_file_without_its_arrays_is_told(call, tmp_path, capsys):
    write_digits(tmp_path / "m.npz", labels=None)
    assert call("--mnist-file", "npz:m.npz") == 1
    assert "labels missing" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--scale cpu --settings lora-r9", "Did you mean 'lora-r8'"),
        ("--scale cpu --street svhn", "--street svhn: for --scale gpu"),
        ("--scale gpu --target usps", "for --scale cpu"),
        ("--scale cpu --dry-run adapter.rank=3", "adapter.rank: the sweep's file varies it"),
        ("--scale cpu --dry-run data.name=digits", "data.name: the sweep's file varies it"),
        ("--scale cpu --dry-run train.stepz=3", "train.stepz"),
        ("--scale cpu --dry-run train", "override 'train' is not of the form"),
    ],
)
def test_wrong_options_are_told(script, capsys, words, told):
    assert script.main(shlex.split(words)) == 2
    said = capsys.readouterr().err
    assert told in said and said.startswith("error: ")


@pytest.mark.parametrize("words", ["--steps 0", "--seeds 0,x", "--processes -1", "--scale tpu"])
def test_wrong_numbers_are_refused_at_once(script, capsys, words):
    with pytest.raises(SystemExit):
        script.parse_options(["--scale", "cpu", *shlex.split(words)])
    assert "error: argument" in capsys.readouterr().err


def test_its_own_examples_are_options_it_takes(script):
    examples = [line.strip() for line in script.__doc__.split("Examples:")[1].splitlines() if line.strip()]
    assert len(examples) >= 5
    for line in examples:
        python, name, *words = shlex.split(line)
        assert (python, name) == ("python", "scripts/reproduce_paper.py")
        wish = script.read_wish(script.parse_options(words))
        assert wish.directions
    first = script.read_wish(script.parse_options(["--scale", "cpu"]))
    assert (first.steps, first.batch_size, first.images, first.seeds) == (300, 32, 500, (0,))
    assert first.handwriting == {"mnist": "npz:mnist_train_part.npz", "usps": "npz:usps.npz"}
    full = script.read_wish(script.parse_options(["--scale", "gpu", "data.download=true", "train.steps=9"]))
    assert (full.steps, full.seeds, full.handwriting, full.street) == (None, None, {"mnist": "mnist"}, "svhn")
    assert full.data == ("data.download=true",)


def test_values_of_data_hold_for_the_bases_too(script, experiment):
    words = ["--scale", "gpu", "data.download=true", "data.root=there", "train.steps=9"]
    wish = script.read_wish(script.parse_options(words))
    for move in experiment.list_moves(wish):
        assert (move.pretraining.data.download, move.pretraining.data.root) == (True, "there")
        assert move.pretraining.train.steps > 9


def test_help_loads_no_torch():
    path = str(SCRIPTS / "reproduce_paper.py")
    code = (
        f"import json, runpy, sys\nsys.argv = ['x', '--help']\ntry: runpy.run_path({path!r}, run_name='__main__')\n"
        "except SystemExit: print(json.dumps('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *text, loaded = done.stdout.strip().splitlines()
    assert json.loads(loaded) is False and "--scale" in "\n".join(text), done.stderr
