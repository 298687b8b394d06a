"""Saving, spoiling and refusing to load: what the two storage tests share."""

from __future__ import annotations

import copy
import json
import warnings

import pytest
import torch

from superlora_diffusion import SuperLoRAConfig, attach, load_adapter
from superlora_diffusion.errors import SuperLoRAError

from .networks import NETWORKS, fields_for, fill

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def attached(network="mixed", setting="group"):
    model = NETWORKS[network]()
    base = copy.deepcopy(model)
    adapter = attach(model, SuperLoRAConfig(**fields_for(network, setting)))
    fill(adapter)
    return base, model, adapter


def saved(folder, network="mixed", setting="group", **options):
    base, model, adapter = attached(network, setting)
    adapter.save_pretrained(folder, **options)
    return base, model, adapter


def same_deltas(one, two) -> bool:
    mine, theirs = one.deltas(), two.deltas()
    return mine.keys() == theirs.keys() and all(
        torch.equal(delta, theirs[name]) for name, delta in mine.items()
    )


def places(node, word):
    """Every (holder, key) in nested JSON whose key contains the word."""
    if isinstance(node, dict):
        for key, value in node.items():
            if word in key:
                yield node, key
            yield from places(value, word)
    elif isinstance(node, list):
        for value in node:
            yield from places(value, word)


def edit(folder, word, change) -> None:
    content = json.loads((folder / CONFIG).read_text())
    found = list(places(content, word))
    assert found, f"nothing called {word} in {list(content)}"
    for holder, key in found:
        holder[key] = change(holder[key])
    (folder / CONFIG).write_text(json.dumps(content))


def spoiled(value):
    """Another value of the same kind."""
    if isinstance(value, dict):
        return {key: spoiled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [spoiled(item) for item in value]
    if isinstance(value, str):
        return "".join("1" if c == "0" else "0" for c in value)
    return value + 1


def refuses(model, folder) -> str:
    """Loading raises, says why, and leaves the model as it was."""
    before = copy.deepcopy(model.state_dict())
    kinds = [type(module) for module in model.modules()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the base is another one too
        with pytest.raises(SuperLoRAError) as caught:
            load_adapter(model, folder)
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [type(module) for module in model.modules()] == kinds
    assert all(parameter.requires_grad for parameter in model.parameters())
    return str(caught.value)
