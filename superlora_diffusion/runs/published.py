"""What of a run goes with a published adapter, so that it is sampled and scored elsewhere as it was here.

Places on this machine are left out: a path becomes its last part.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..adapters.reading import read_adapter_config
from ..errors import ConfigError, EvaluationError
from ..hub.download import is_hub_id
from .config import RunConfig
from .loading import parse_yaml

RUN_CONFIG = "run_config.yaml"


def publishable(config: RunConfig, name: str) -> dict[str, Any]:
    """A run's values without those that say where things lie on this machine."""
    values = config.model_dump(mode="json")
    values["output"] = name
    values["data"].update(root=None, download=False, name=public_name(config.data.name))
    for section, key in (("base", "path"), ("evaluation", "extractor"), ("evaluation", "extractor_path")):
        if values[section][key] is not None:
            values[section][key] = public_name(values[section][key])
    return values


def public_name(name: str) -> str:
    """The name of a base or of data as others may read it: of a path its last part, all else as it is."""
    kind, colon, path = name.rpartition(":")
    if not colon and is_hub_id(path) and not Path(path).expanduser().exists():
        return name
    return f"{kind}{colon}{Path(path).name}"


def read_published(folder: Path) -> RunConfig | None:
    """The run's config beside a downloaded adapter; None where there is none.

    Raises:
        ConfigError: if it is broken, or of a version that knew other names.
    """
    path = folder / RUN_CONFIG
    if not path.is_file():
        return None
    return RunConfig(**parse_yaml(path.read_text(encoding="utf-8"), str(path)))


def config_from_adapter(folder: Path, name: str) -> RunConfig:
    """What an adapter's own file says of its run: base and data by name, all else at its default.

    Raises:
        EvaluationError: if it does not name its data.
    """
    described = read_adapter_config(folder)
    base, data = (described.get(key) or {} for key in ("base", "data"))
    try:
        settings = {"path": base["id"], **(base.get("settings") or {})}
        return RunConfig(output=name, base=settings, data={"name": data["name"]})
    except (KeyError, ConfigError) as error:
        raise EvaluationError(
            f"{folder} does not say which data it was trained on, so there is nothing to compare with "
            f"({type(error).__name__}: {error}). Score its run folder instead."
        ) from error
