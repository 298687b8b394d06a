"""Compare settings of the method on one target: learning rate searched for each, then trained, then scored.

Each setting gets a short race of learning rates on the validation loss, a full run at the winner, and scores. Every
run is an ordinary run folder, so the same command again goes on where it stopped.

Examples:
  python scripts/compare_settings.py --out runs/compare
  python scripts/compare_settings.py --out runs/quick --settings lora,lorta --steps 200 --race-steps 50
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from superlora_diffusion.devices import resolve_device
from superlora_diffusion.evaluation.evaluate import Request, evaluate_run
from superlora_diffusion.evaluation.plot import plot_front
from superlora_diffusion.evaluation.records import ScoreRecord
from superlora_diffusion.files import write_text
from superlora_diffusion.runs.folder import RunFolder
from superlora_diffusion.runs.loading import load_config
from superlora_diffusion.training.loop import train

SETTINGS = {
    "lora": ["adapter.variant=lora"],
    "lorta": ["adapter.variant=lorta", "adapter.rank=8"],
    "group_lora": ["adapter.variant=group_lora"],
    "dense": ["adapter.variant=dense"],
    "lokr": ["adapter.variant=lokr"],
    "lonkr": ["adapter.variant=lonkr"],
    "lotr": ["adapter.variant=lotr"],
}
RATES = {"dense": (2e-3, 4e-3, 8e-3, 1.6e-2), "lonkr": (8e-2, 1.6e-1, 3.2e-1, 6.4e-1)}
DEFAULT_RATES = (1e-2, 2e-2, 4e-2, 8e-2)


def main() -> None:
    options = parse_options()
    out, rows, records = Path(options.out), [], []
    for name in options.settings.split(","):
        race = {rate: race_rate(out, name, rate, options) for rate in RATES.get(name, DEFAULT_RATES)}
        best = min(race, key=race.get)
        run = out / name
        train_run(run, name, best, options.steps, options)
        request = make_request(options)
        scored = evaluate_run(str(run), request, records)
        records += [record for record in scored if record not in records]
        rows.append(describe(name, best, race, validation_loss(run), scored[-1]))
        write_text(out / "table.md", table(rows, records))
        print(rows[-1], flush=True)
    plot_front(records, out / "is-distance.png")
    print(table(rows, records))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="folder of all runs and the table")
    parser.add_argument("--config", default="demo", help="config that every run starts from")
    parser.add_argument(
        "--settings", default="lora,lorta,group_lora,dense", help=f"of: {', '.join(SETTINGS)}"
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument(
        "--race-steps", type=int, default=150, help="steps of each run of the learning-rate search"
    )
    parser.add_argument("--images", type=int, default=1000, help="images generated for each score")
    parser.add_argument(
        "--real", help="data set whose test split is scored against; the run's own by default"
    )
    parser.add_argument("--extractor", help="auto, digits or inception; the config's by default")
    parser.add_argument("--sampler", help="sampler of the scored images; the config's by default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("overrides", nargs="*", help="key.path=value for every run")
    return parser.parse_args()


def make_request(options: argparse.Namespace) -> Request:
    return Request(
        images=options.images,
        extractor=options.extractor,
        real=options.real,
        sampling={} if options.sampler is None else {"sampler": options.sampler},
        device=resolve_device(options.device),
    )


def race_rate(out: Path, name: str, rate: float, options: argparse.Namespace) -> float:
    """Validation loss after a short run at one learning rate; infinite where it diverged."""
    from superlora_diffusion.errors import RunError

    run = out / "race" / f"{name}-{rate:g}"
    try:
        train_run(run, name, rate, options.race_steps, options)
    except RunError as error:
        print(f"{run}: {error}", flush=True)
        return float("inf")
    return validation_loss(run)


def train_run(run: Path, name: str, rate: float, steps: int, options: argparse.Namespace) -> None:
    overrides = [*SETTINGS[name], f"train.learning_rate={rate}", f"train.steps={steps}", "preview.every=null"]
    intervals = [f"validation.every={max(steps // 4, 1)}", "log.every=50"]
    config = load_config(options.config, [*overrides, *intervals, *options.overrides], output=str(run))
    train(config, device=options.device, quiet=True)


def validation_loss(run: Path) -> float:
    """The last measured validation loss of a run."""
    lines = map(json.loads, RunFolder(run).metrics.read_text().splitlines())
    return [line["validation_loss"] for line in lines if "validation_loss" in line][-1]


def describe(name: str, rate: float, race: dict[float, float], loss: float, record: ScoreRecord) -> str:
    tried = ", ".join(f"{tested:g}: {value:.4f}" for tested, value in race.items())
    return (
        f"| {name} | {record.parameters:,} | {rate:g} | {loss:.4f} | {record.is_mean:.3f} ± {record.is_stderr:.3f} "
        f"| {record.is_distance:.3f} | {record.fid:.2f} | {record.accuracy:.1%} | {tried} |"
    )


def table(rows: list[str], records: list[ScoreRecord]) -> str:
    """The rows as Markdown, the base's line and the protocol with them."""
    base = records[0]
    columns = (
        "setting, parameters, learning rate, validation loss, IS ± s.e., IS distance, FID, accuracy, race"
    )
    head = f"| {columns.replace(', ', ' | ')} |"
    rule = "| --- " * 9 + "|"
    score = f"{base.is_mean:.3f} ± {base.is_stderr:.3f} | {base.is_distance:.3f} | {base.fid:.2f}"
    protocol = (
        f"IS of the real images {base.is_real:.3f}. {base.protocol}. Drawn with {json.dumps(base.settings)}."
    )
    return "\n".join(
        [head, rule, *rows, f"| base | 0 | | | {score} | {base.accuracy:.1%} | |", "", protocol, ""]
    )


if __name__ == "__main__":
    main()
