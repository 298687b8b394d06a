"""What a run leaves: its adapter (or for method full its base), at the end and for the best step so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..adapters.storage import AdapterCard
from ..models.classifier import Classifier
from ..models.classifier_storage import save_classifier, save_head
from ..models.config import FOREIGN_BASE_FIELDS
from ..models.storage import save_base
from ..peers import Peer
from ..runs.config import RunConfig
from .data import Data
from .setup import Trainee


def write_result(folder: Path, config: RunConfig, trainee: Trainee, data: Data, step: int) -> None:
    """Write what trained as it stands: an adapter folder, or a base."""
    trained = {"steps": step, "learning_rate": config.learning_rate, "seed": config.seed}
    seen = {"name": data.train[0].name, "content_hash": data.content_hash}
    adapter = trainee.adapter
    if adapter is None:
        save = save_classifier if config.classifies else save_base
        save(trainee.base, folder, {"data": seen, "training": trained})
        return
    read = config.base.model_dump(mode="json", include=set(FOREIGN_BASE_FIELDS))
    told = _save_head(folder, trainee.base) if config.classifies else {}
    card = AdapterCard(trainee.base.name, read, seen, trained, told)
    save = adapter.save if isinstance(adapter, Peer) else adapter.save_pretrained
    save(folder, card=card)


def _save_head(folder: Path, base: Classifier) -> dict[str, Any]:
    """Write the head beside an adapter if it trained; what the adapter's file says of it."""
    save_head(base, folder)
    count = sum(parameter.numel() for parameter in base.head_parameters().values())
    return {"class_names": list(base.class_names), "head_parameters": count}
