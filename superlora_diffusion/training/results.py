"""What a run leaves: its adapter (or for method full its base), at the end and for the best step so far."""

from __future__ import annotations

from pathlib import Path

from ..adapters.storage import AdapterCard
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
        save_base(trainee.base, folder, {"data": seen, "training": trained})
        return
    read = config.base.model_dump(mode="json", include=set(FOREIGN_BASE_FIELDS))
    card = AdapterCard(base=trainee.base.name, base_settings=read, data=seen, training=trained)
    save = adapter.save if isinstance(adapter, Peer) else adapter.save_pretrained
    save(folder, card=card)
