"""``sample`` below the command line: sources, classes, scale and merge, and what is written."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import NAMES, make_base, run_config, write_base, write_data

from superlora_diffusion.errors import BaseModelError, ConfigError, RunError, SamplingError
from superlora_diffusion.models.storage import save_base
from superlora_diffusion.runs.draw import choose_classes, draw, prepare_drawing
from superlora_diffusion.runs.source import base_digest, open_source
from superlora_diffusion.sampling.config import SamplingSettings
from superlora_diffusion.sampling.producer import generate
from superlora_diffusion.sampling.request import SampleRequest
from superlora_diffusion.training.loop import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny base, data, and a finished run whose adapter does a lot."""
    folder = tmp_path_factory.mktemp("drawing")
    write_base(folder / "base")
    write_data(folder / "data.npz")
    settings = {"steps": 20, "batch_size": 8, "learning_rate": 0.3, "lr_schedule": "constant"}
    train(run_config(folder, train=settings, sampling={"steps": 3, "guidance_scale": 2.0}), "cpu", quiet=True)
    return folder


def sample(path, out, base=None, **request):
    """Images of an npz, and what samples.json says."""
    drawing = prepare_drawing(str(path), base, SampleRequest(format="npz", **request), CPU, out)
    written = draw(drawing)
    assert json.loads((out / "samples.json").read_text()) == written
    with np.load(out / "samples.npz") as stored:
        return stored["images"].astype(int), stored["labels"], written


def test_a_run_an_adapter_with_its_base_and_another_base_agree(place, tmp_path):
    of_run, labels, written = sample(place / "run", tmp_path / "a", count=6)
    assert of_run.shape == (6, 8, 8, 3) and labels.tolist() == [0, 1, 2, 3, 0, 1]
    assert written["sampling"]["steps"] == 3 and written["sampling"]["guidance_scale"] == 2.0
    assert written["parameters"] == 512 and written["base"] == str(place / "base")
    same = {"steps": 3, "guidance_scale": 2.0}
    of_adapter, _, written = sample(place / "run" / "adapter", tmp_path / "b", count=6, sampling=same)
    assert np.array_equal(of_run, of_adapter) and written["source"] == "adapter"
    (tmp_path / "copy").symlink_to(place / "base")
    moved, _, written = sample(place / "run", tmp_path / "c", base=str(tmp_path / "copy"), count=6)
    assert np.array_equal(of_run, moved) and written["base"] == str(tmp_path / "copy")


def test_scale_zero_is_the_base_and_scales_between_move_away(place, tmp_path):
    same = {"steps": 3, "guidance_scale": 2.0}
    base, _, written = sample(place / "base", tmp_path / "base", sampling=same)
    assert written["parameters"] == 0 and written["scale"] is None and len(base) == 32
    moved = {
        scale: np.abs(sample(place / "run", tmp_path / str(scale), scale=scale)[0] - base).mean()
        for scale in (0.0, 0.1, 1.0)
    }
    assert moved[0.0] == 0 < moved[0.1] < moved[1.0] and moved[1.0] > 2


def test_merging_changes_only_the_rounding(place, tmp_path):
    plain, _, _ = sample(place / "run", tmp_path / "plain", scale=0.5)
    merged, _, written = sample(place / "run", tmp_path / "merged", scale=0.5, merge=True)
    assert written["merged"] and written["scale"] == 0.5
    assert np.abs(plain - merged).max() <= 1
    unscaled, _, _ = sample(place / "run", tmp_path / "unscaled")
    assert np.abs(plain - unscaled).max() > 1


def test_merging_really_writes_into_the_weights(place, tmp_path):
    drawing = prepare_drawing(str(place / "run"), None, SampleRequest(count=1, merge=True), CPU, tmp_path)
    before = base_digest(drawing.source.base)
    draw(drawing)
    assert drawing.source.adapter.is_merged and base_digest(drawing.source.base) != before


def test_the_updates_are_generated_once_for_all_steps(place, tmp_path):
    drawing = prepare_drawing(str(place / "run"), None, SampleRequest(count=5), CPU, tmp_path)
    before = drawing.source.adapter.generations
    draw(drawing)
    assert drawing.source.adapter.generations - before == 1


def test_images_are_the_producers(place, tmp_path):
    images, _, _ = sample(
        place / "base", tmp_path, classes="oak,1", count=5, seed=9, sampling={"steps": 2, "batch_size": 2}
    )
    wanted = generate(make_base(), np.array([3, 1, 3, 1, 3]), 5, SamplingSettings(steps=2), seed=9)
    assert np.abs(images - wanted).max() <= 1


def test_single_pictures_carry_number_and_class(tmp_path):
    base = make_base()
    base.class_names = ("a/b", "birch", "cedar", "é ü")
    save_base(base, tmp_path / "base")
    request = SampleRequest(format="png", count=5, sampling={"steps": 1})
    written = draw(prepare_drawing(str(tmp_path / "base"), None, request, CPU, tmp_path / "out"))
    names = ["0000-a-b.png", "0001-birch.png", "0002-cedar.png", "0003-é-ü.png", "0004-a-b.png"]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == names
    images, _, _ = sample(tmp_path / "base", tmp_path / "npz", count=5, sampling={"steps": 1})
    for path, image in zip(written["files"], images, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), image)


def test_the_grid_has_a_labelled_column_a_class(place, tmp_path):
    request = SampleRequest(count=7, classes="cedar,ash", sampling={"steps": 1})
    written = draw(prepare_drawing(str(place / "base"), None, request, CPU, tmp_path))
    assert written["files"] == [str(tmp_path / "grid.png")] and written["classes"] == [2, 0, 2, 0, 2, 0, 2]
    sheet = np.asarray(Image.open(tmp_path / "grid.png"))
    assert sheet.shape == (4 * 50 + 2 + 16, 2 * 50 + 2, 3) and (sheet[:16] < 100).any()


def test_unconditional_and_grey_bases_are_drawn(tmp_path):
    write_base(tmp_path / "base", classes=0, in_channels=1, out_channels=1)
    for kind in ("grid", "png", "npz"):
        request = SampleRequest(format=kind, count=3, sampling={"steps": 1})
        assert (
            draw(prepare_drawing(str(tmp_path / "base"), None, request, CPU, tmp_path / kind))["count"] == 3
        )
    assert np.asarray(Image.open(tmp_path / "png" / "0001-image.png")).shape == (8, 8)
    with np.load(tmp_path / "npz" / "samples.npz") as stored:
        assert stored["images"].shape == (3, 8, 8, 1)
    with pytest.raises(ConfigError, match="unconditional"):
        prepare_drawing(str(tmp_path / "base"), None, SampleRequest(classes="1"), CPU)


def test_a_base_without_a_null_class_is_drawn_unguided(tmp_path):
    write_base(tmp_path / "base", null_class=False)
    drawing = prepare_drawing(str(tmp_path / "base"), None, SampleRequest(), CPU, tmp_path / "out")
    assert drawing.settings.guidance_scale == 1
    asked = SampleRequest(count=1, sampling={"guidance_scale": 2})
    with pytest.raises(BaseModelError, match="no null class"):
        draw(prepare_drawing(str(tmp_path / "base"), None, asked, CPU, tmp_path / "out"))


def test_where_things_go_by_default(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [
        prepare_drawing(str(place / name), None, SampleRequest(), CPU).folder for name in ("run", "base")
    ]
    assert [str(folder) for folder in folders] == [str(place / "run" / "samples" / "sample"), "samples-base"]


@pytest.mark.parametrize(
    ("text", "wanted"), [(None, [0, 1, 2, 3]), ("oak", [3]), ("1, ash ,1", [1, 0, 1]), ("3", [3])]
)
def test_classes_by_name_or_number(text, wanted):
    assert choose_classes(text, make_base()) == wanted


@pytest.mark.parametrize("text", ["oaks", "4", "-1", "", "ash,,oak", "1.0"])
def test_unknown_classes_say_what_is_known(text):
    with pytest.raises(ConfigError, match=r"is unknown.*ash, birch, cedar, oak \(or 0 to 3\)"):
        choose_classes(text, make_base())


def test_a_name_that_is_a_number_wins_over_the_index():
    base = make_base()
    base.class_names = ("3", "2", "1", "0")
    assert choose_classes("3,0", base) == [0, 3]


def test_requests_are_checked(place):
    with pytest.raises(ConfigError, match=r"scale.*\n?.*format|format"):
        SampleRequest(scale=float("nan"), format="gif", count=0)
    for request in ({"scale": 2.0}, {"merge": True}):
        with pytest.raises(SamplingError, match="has no adapter"):
            prepare_drawing(str(place / "base"), None, SampleRequest(**request), CPU)
    with pytest.raises(ConfigError, match="heun"):
        prepare_drawing("nowhere", None, SampleRequest(sampling={"sampler": "heun"}), CPU)
    with pytest.raises(ConfigError, match=r"unknown name 'step'.*'steps'"):
        prepare_drawing("nowhere", None, SampleRequest(sampling={"step": 3}), CPU)


def test_an_unfinished_run_says_how_to_go_on(place, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text((place / "run" / "config.yaml").read_text())
    with pytest.raises(
        RunError, match=r"is not finished. Go on with: superlora-diff train --config .*output="
    ):
        open_source(str(tmp_path / "run"))


def test_an_adapter_whose_base_is_gone_can_be_given_another(place, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in (place / "run" / "adapter").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    described = json.loads((folder / "adapter_config.json").read_text())
    described["base"]["id"] = "./gone"
    (folder / "adapter_config.json").write_text(json.dumps(described))
    with pytest.raises(BaseModelError, match=r"'./gone' is no folder.*--base"):
        open_source(str(folder))
    assert open_source(str(folder), str(place / "base")).adapter.num_parameters == 512
    described["base"]["id"] = None
    (folder / "adapter_config.json").write_text(json.dumps(described))
    with pytest.raises(RunError, match=r"does not say which base.*--base"):
        open_source(str(folder))


def test_a_run_of_method_full_is_its_own_base(place, tmp_path):
    train(run_config(place, output=str(tmp_path / "full"), method="full"), "cpu", quiet=True)
    source = open_source(str(tmp_path / "full"))
    assert source.adapter is None and source.name == "full" and source.base.class_names == NAMES
    assert base_digest(source.base) != base_digest(make_base())


def test_the_digest_of_a_base_sees_its_weights_and_no_adapter(place):
    source = open_source(str(place / "run"))
    assert base_digest(source.base) == base_digest(make_base()) and len(base_digest(source.base)) == 12
    with torch.no_grad():
        source.base.network.conv_out.bias[0] += 1e-6
    assert base_digest(source.base) != base_digest(make_base())


def test_fewer_images_leave_no_earlier_ones_beside_them(tmp_path):
    write_base(tmp_path / "base")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.png").write_bytes(b"not ours")
    for count in (6, 2):
        request = SampleRequest(count=count, format="png", sampling={"steps": 1})
        draw(prepare_drawing(str(tmp_path / "base"), None, request, torch.device("cpu"), tmp_path / "out"))
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["0000-ash.png", "0001-birch.png", "mine.png", "samples.json"]
