"""What goes with a family's run: precisions, variants, the hub, buckets, caches, other methods, sweeps."""

from __future__ import annotations

import json
import shutil

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import yaml
from families import load
from pipelines import load_pipeline

from superlora_diffusion.data.cache import cache_root
from superlora_diffusion.models.families.latents import Latent
from superlora_diffusion.models.families.text import TextConditional
from superlora_diffusion.runs.source import open_source

from .family_runs import KINDS, LATENT, drawn, refused, said, save_pictures, write_config
from .plain import plain_images

VISIBLE = 8


@pytest.fixture
def run(request, runs):
    return runs[request.param]


def for_kinds(kinds):
    return pytest.mark.parametrize("run", kinds, indirect=True)


def train(run, out, *words):
    said("train", "--config", run.config, "--device", "cpu", "-q", f"output={out}", *words)


@for_kinds(KINDS)
def test_a_base_in_bf16(run, tmp_path):
    train(run, tmp_path / "run", "base.precision=bf16")
    source = open_source(str(tmp_path / "run"))
    assert source.base.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in source.adapter.parameters()} == {torch.float32}
    images = drawn(run.kind, tmp_path / "run", tmp_path / "images")
    assert np.abs(images - run.plain).max() > VISIBLE
    precise = drawn(run.kind, tmp_path / "run" / "adapter", tmp_path / "precise", "--base", run.base)
    assert 0 < np.abs(images - precise).mean() < np.abs(images - run.plain).mean() / 2


def halved(run, folder):
    """The run's base with files of variant fp16 alone."""
    load_pipeline(run.base).to(torch.float16).save_pretrained(folder, variant="fp16")
    assert not [path for path in folder.rglob("*.safetensors") if ".fp16." not in path.name]
    return folder


@for_kinds(["unconditional", "dit", "sd"])
def test_a_base_of_which_there_is_only_a_variant(run, tmp_path):
    base = halved(run, tmp_path / "base")
    said_no = refused("train", "--config", run.config, f"output={tmp_path / 'no'}", f"base.path={base}")
    assert "no file named diffusion_pytorch_model" in said_no
    train(run, tmp_path / "run", f"base.path={base}", "base.variant=fp16")
    source = open_source(str(tmp_path / "run"))
    held = [source.base.network]
    if run.kind in LATENT:
        held.append(source.base.parts.load("vae"))
    if run.kind == "sd":
        held.append(source.base.family.text_pipeline(source.base, torch.device("cpu")).text_encoder)
    assert {part.dtype for part in held} == {torch.float32}
    images = drawn(run.kind, tmp_path / "run", tmp_path / "images")
    whole = drawn(run.kind, tmp_path / "run" / "adapter", tmp_path / "whole", "--base", run.base)
    assert np.abs(images - whole).max() <= 3 and np.abs(images - run.plain).max() > VISIBLE
    said("merge", tmp_path / "run", "--out", tmp_path / "merged")
    assert 'variant="fp16"' in (tmp_path / "merged" / "README.md").read_text()
    merged = load_pipeline(tmp_path / "merged", variant="fp16", torch_dtype=torch.float32)
    assert np.abs(plain_images(merged) - images).max() <= 1
    train(run, tmp_path / "full", f"base.path={base}", "base.variant=fp16", "method=full", "train.steps=1")
    drawn(run.kind, tmp_path / "full", tmp_path / "of-full")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def put_on(hub, folder, reference, commit):
    """A folder as one commit of someone/trees, laid out as the hub's client does: links to blobs."""
    repository = hub / "models--someone--trees"
    for index, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        blob = repository / "blobs" / f"{commit[:8]}{index:032x}"
        place = repository / "snapshots" / commit / path.relative_to(folder)
        for made in (blob, place):
            made.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        place.symlink_to(blob)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / reference).write_text(commit)


@for_kinds(["sd", "sd3"])
def test_a_base_on_the_hub_by_its_revision(run, runs, hub, tmp_path):
    changed = tmp_path / "changed"
    said("merge", run.run, "--out", changed)
    put_on(hub, run.base, "main", "a" * 40)
    put_on(hub, changed, "v2", "b" * 40)
    train(run, tmp_path / "main", "base.path=someone/trees")
    train(run, tmp_path / "two", "base.path=someone/trees", "base.revision=v2")
    first, second = (
        drawn(run.kind, tmp_path / name, tmp_path / f"{name}-images") for name in ("main", "two")
    )
    assert np.array_equal(first, run.ours) and np.abs(second - first).max() > 1
    told = json.loads((tmp_path / "two" / "adapter" / "adapter_config.json").read_text())["base"]
    assert told["id"] == "someone/trees" and told["settings"]["revision"] == "v2"
    said("merge", tmp_path / "two", "--out", tmp_path / "merged")  # its other parts are the revision's, too
    assert (tmp_path / "merged" / "BASE_README.md").is_file() and not (
        tmp_path / "merged" / "unet"
    ).is_symlink()
    assert np.abs(plain_images(load_pipeline(tmp_path / "merged")) - second).max() <= 1
    text = refused("sample", "someone/bushes", "--prompt", "a", "--out", tmp_path / "none")
    assert "someone/bushes is no folder here" in text and "HF_HUB_OFFLINE" in text


@for_kinds(LATENT)
def test_all_weights_of_a_family(run, tmp_path):
    train(run, tmp_path / "run", "method=full", "train.learning_rate=0.01")
    images = drawn(run.kind, tmp_path / "run", tmp_path / "images")
    assert np.abs(images - run.plain).max() > VISIBLE
    plain = plain_images(load_pipeline(tmp_path / "run" / "base"))
    assert np.abs(plain - images).max() <= 1


@for_kinds(["sd", "sdxl"])
def test_pictures_of_two_shapes_go_to_two_buckets(run, tmp_path):
    save_pictures(tmp_path / "pictures", [f"oak/{index}.png" for index in range(8)], 32, 16)
    save_pictures(tmp_path / "pictures", [f"ash/{index}.png" for index in range(8)], 16, 32)
    words = [f"data.name=imagefolder:{tmp_path / 'pictures'}", "data.buckets=true", "data.bucket_multiple=8"]
    train(run, tmp_path / "run", *words, "data.resolution=24", "preview.every=6")
    told = json.loads((tmp_path / "run" / "data.json").read_text())["train"]["buckets"]
    shapes = [bucket["preparation"]["resize"]["to"] for bucket in told]
    assert shapes == [[16, 32], [32, 16]] and sum(bucket["images"] for bucket in told) == 12
    assert (tmp_path / "run" / "samples" / "step-000006.png").is_file()
    adapted = drawn(run.kind, tmp_path / "run", tmp_path / "images", "--height", 16, "--width", 32)
    assert adapted.shape == (2, 16, 32, 3)
    base = drawn(run.kind, run.base, tmp_path / "base", "--height", 16, "--width", 32)
    assert np.abs(adapted - base).max() > VISIBLE


class Counted:
    """How many images and which prompts were encoded."""

    def __init__(self, monkeypatch):
        self.images, self.prompts = 0, []
        latents, prompts = Latent.to_latents, TextConditional.encode_prompts

        def to_latents(family, base, images):
            self.images += len(images)
            return latents(family, base, images)

        def encode_prompts(family, base, texts, device):
            self.prompts += texts
            return prompts(family, base, texts, device)

        monkeypatch.setattr(Latent, "to_latents", to_latents)
        monkeypatch.setattr(TextConditional, "encode_prompts", encode_prompts)

    def new(self):
        """Since it was last asked; the empty prompt is encoded anew each time, for dropped captions."""
        found = self.images, sorted({prompt for prompt in self.prompts if prompt})
        self.images, self.prompts = 0, []
        return found


def test_nothing_is_encoded_twice(runs, tmp_path, monkeypatch):
    shutil.copytree(runs["sd"].base, tmp_path / "base")
    monkeypatch.setenv("SUPERLORA_CACHE", str(tmp_path / "cache"))
    config, counted = write_config("sd", tmp_path, train={"steps": 1}), Counted(monkeypatch)

    def encoded(name):
        said("train", "--config", config, "--device", "cpu", "-q", f"output={tmp_path / name}")
        return counted.new()

    everything, words = encoded("a"), 8
    assert everything[0] == 20 and len(everything[1]) == words  # 16 train, 4 are held out
    assert encoded("b") == (0, [])
    table = tmp_path / "pictures" / "metadata.jsonl"
    table.write_text(table.read_text().replace("a fir leaf", "a fir tree"))
    assert encoded("c") == (0, ["a fir tree"])
    damaged = next((cache_root() / "latents").rglob("*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:40])
    for path in (cache_root() / "embeddings").rglob("*.safetensors"):
        path.write_bytes(b"")
    images, prompts = encoded("d")
    assert images in (4, 16) and len(prompts) == words
    vae = load(tmp_path / "base").parts.load("vae")
    with torch.no_grad():
        vae.quant_conv.bias.add_(0.1)
    vae.save_pretrained(tmp_path / "base" / "vae")
    assert encoded("e") == (20, [])
    encoder = load_pipeline(tmp_path / "base").text_encoder
    with torch.no_grad():
        next(encoder.parameters()).mul_(0.5)
    encoder.save_pretrained(tmp_path / "base" / "text_encoder")
    images, prompts = encoded("f")
    assert images == 0 and len(prompts) == words


METHODS = {
    "peft": ["method=peft"],
    "loha": ["method=lycoris", "lycoris.algo=loha"],
    "bitfit": ["method=bitfit"],
    "difffit": ["method=difffit"],
    "norms": ["method=norms"],
}


@for_kinds(["dit", "sd", "sd3"])
@pytest.mark.parametrize("method", METHODS)
def test_other_methods(run, method, tmp_path):
    words = [*METHODS[method], "train.learning_rate=0.3", "train.steps=3"]
    if method == "norms" and run.kind != "sd":
        text = refused("train", "--config", run.config, f"output={tmp_path / 'run'}", *words)
        assert "has nothing of the kind to train: weights and biases of all 0 normalisation layers" in text
        return
    train(run, tmp_path / "run", *words)
    images = drawn(run.kind, tmp_path / "run", tmp_path / "images")
    assert np.abs(images - run.plain).max() > 2
    assert "neither be scaled nor merged" in refused("sample", tmp_path / "run", "--merge", "--prompt", "a")
    assert "export and merge take SuperLoRA" in refused("merge", tmp_path / "run", "--out", tmp_path / "m")


def test_difffit_scales_what_each_block_adds(runs):
    for kind, ends in {"dit": ("attn1.to_out.0", "ff.net.2"), "sd3": ("attn.to_out.0", "ff.net.2")}.items():
        words = ["--dry-run", "--json", "method=difffit"]
        plan = json.loads(said("train", "--config", runs[kind].config, *words))
        branches = 4 if kind == "dit" else 4 + 2 * 2 - 2  # the last block adds nothing to the text
        assert f"the scales of {branches} blocks" in plan["trains"], (plan["trains"], ends)
        assert ("the class embedding" in plan["trains"]) == (kind == "dit")


def test_a_sweep_on_a_base_that_takes_text(runs, tmp_path):
    sweep = {
        "output": str(tmp_path / "sweep"),
        "config": str(runs["sdxl"].config),
        "seeds": [0, 1],
        "settings": [
            {"name": "lora", "set": {"adapter.variant": "lora", "adapter.targets": ["to_q"]}},
            {"name": "bitfit", "set": {"method": "bitfit"}},
        ],
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    plan = json.loads(said("sweep", "--config", tmp_path / "sweep.yaml", "--dry-run", "--json"))
    counts = {cell["cell"]: cell["parameters"] for cell in plan["cells"]}
    assert len(plan["cells"]) == 4 and len(set(counts.values())) == 2 and min(counts.values()) > 0
