"""The paper's experiment (arXiv 2403.11887): thirteen settings and dense, moved from one kind of digits to another.

At scale gpu it is the paper's: its U-Net at 32 px, SVHN to MNIST and back, with the published counts. At scale cpu the
same settings run on the embedded base (16 px): synthdigits to MNIST and USPS, and back from a base pretrained on MNIST
first. There each setting keeps its structure and takes the rank at which it trains nearest to the published share
of the weights. Bases that are not there yet are pretrained, all settings run as one sweep with raced learning rates,
and the report lays our points over the published ones.

Stop it whenever you like: the same command goes on. Values of the adapters' runs go behind, as key.path=value; those of
the section data hold for the bases, too.

Examples:
  python scripts/reproduce_paper.py --scale cpu --dry-run
  python scripts/reproduce_paper.py --scale cpu --processes 2
  python scripts/reproduce_paper.py --scale cpu --direction to-handwriting --target usps --usps-file data/usps.npz
  python scripts/reproduce_paper.py --scale cpu --target mnist --mnist-file mnist-mini --settings dense,lora-r8
  python scripts/reproduce_paper.py --scale gpu data.download=true
  python scripts/reproduce_paper.py --scale gpu --direction to-handwriting --street synthdigits train.steps=2000
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

# What loads torch is imported where it is used: --help answers at once, and Ctrl-C is caught.
if TYPE_CHECKING:
    from paper.experiment import Line, Move, Wish

    from superlora_diffusion.data.config import DataConfig
    from superlora_diffusion.runs.config import RunConfig
    from superlora_diffusion.sweeps.config import SweepConfig
    from superlora_diffusion.sweeps.sweep import Result

DIRECTIONS = ("to-handwriting", "to-street")
CPU_DEFAULTS = {"steps": 300, "batch_size": 32, "images": 500, "race_steps": 75, "seeds": (0,)}
CPU_PRETRAIN_STEPS = 3000
MNIST, USPS = "npz:mnist_train_part.npz", "npz:usps.npz"
ARRAYS = (
    "The arrays are images (N, height, width) uint8 and labels (N,) integers 0 to 9, and optionally split (N,), "
    "0 for train and 1 for test"
)


def main(words: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 where cells failed, 2 for wrong options, 128 + signal where it was stopped."""
    options = parse_options(words)
    from superlora_diffusion.cli.common import set_verbosity
    from superlora_diffusion.errors import SuperLoRAError

    set_verbosity(False)
    try:
        return reproduce(read_wish(options), options)
    except SuperLoRAError as error:
        print(f"{error.label}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to go on.", file=sys.stderr)
        return 130


def reproduce(wish: Wish, options: argparse.Namespace) -> int:
    """Count, pretrain, sweep, report."""
    from paper.comparison import plan_text
    from paper.experiment import list_lines, list_moves, make_sweep

    from superlora_diffusion.sweeps.cells import list_cells
    from superlora_diffusion.sweeps.config import override_sweep

    moves = list_moves(wish)
    lines = list_lines(wish, moves)
    sweep = override_sweep(make_sweep(wish, lines), options.overrides)
    cells = list_cells(sweep)  # every fault of a value is told here, before anything is loaded
    if not options.quiet:
        print(plan_text(lines), flush=True)
    if options.dry_run:
        print(estimate(sweep, moves, options))
        return 0
    check_data([cell.config.data for cell in cells], moves, wish)
    for pretraining in unfinished_bases(moves):
        pretrain(pretraining, options)
    result = run(sweep, options)
    if result.rows:
        write_results(wish, lines, result, options)
    return exit_code(result)


def check_data(wanted: Sequence[DataConfig], moves: Sequence[Move], wish: Wish) -> None:
    """Look at every data set, those of the bases to come included, before anything is trained.

    Raises:
        DataError: for what is missing or broken.
    """
    from superlora_diffusion.data.loading import load_image_set

    wanted = [*wanted, *(pretraining.data for pretraining in unfinished_bases(moves))]
    for data in {data.model_dump_json(): data for data in wanted}.values():
        check_file(data.name, "usps" if data.name == wish.handwriting.get("usps") else "mnist")
        load_image_set(data, "test")


def check_file(name: str, public: str) -> None:
    """Raise DataError for an npz that is not there, saying where one comes from: mnist or usps."""
    from superlora_diffusion.errors import DataError

    kind, _, path = name.partition(":")
    if kind != "npz" or Path(path).expanduser().is_file():
        return
    option = f"--{public}-file"
    raise DataError(
        f"{path}: no such file. Give its place with {option} FILE.npz. {ARRAYS} (else a fifth of each class is held "
        f"out). Or take a set by name: {option} {public} data.download=true fetches it by torchvision"
        + (", --mnist-file mnist-mini ships with the package." if public == "mnist" else ".")
    )


def unfinished_bases(moves: Sequence[Move]) -> list[RunConfig]:
    """The pretraining runs that are still to be made, each once."""
    return list({move.path: move.pretraining for move in moves if move.to_pretrain}.values())


def pretrain(config: RunConfig, options: argparse.Namespace) -> None:
    """Train a base to its end, going on where it stopped."""
    from superlora_diffusion.training.loop import train

    if not options.quiet:
        print(f"Pretraining {config.output} on {config.data.name}, {config.train.steps:,} steps.", flush=True)
    train(config, options.device, quiet=options.quiet)


def run(sweep: SweepConfig, options: argparse.Namespace) -> Result:
    from superlora_diffusion.progress import Reporter
    from superlora_diffusion.sweeps import runners
    from superlora_diffusion.sweeps.sweep import run_sweep

    runner = runners.make_runner("local", threads_of(options), options.device, processes=options.processes)
    with Reporter("sweep", 0, "job", quiet=options.quiet) as reporter:
        return run_sweep(sweep, runner, reporter)


def threads_of(options: argparse.Namespace) -> int:
    from superlora_diffusion.sweeps.runners import threads_of

    return options.threads or threads_of("local", options.processes)


def write_results(wish: Wish, lines: Sequence[Line], result: Result, options: argparse.Namespace) -> None:
    """The comparison with the published points, the report, and a plot of each move; as far as the sweep went."""
    from paper.comparison import as_csv, compare, scores_text

    from superlora_diffusion.files import write_text

    compared = compare(lines, result.rows)
    path = wish.out / f"comparison-{wish.scale}.csv"
    write_text(path, as_csv(compared))
    written = [path, *write_reports(wish, lines, result)]
    if not options.quiet:
        print(scores_text(compared))
        print("\n".join(map(str, written)))


def write_reports(wish: Wish, lines: Sequence[Line], result: Result) -> list[Path]:
    """One page and table of all runs, and a plot of each move that has any: what is scored on other data is apart."""
    from superlora_diffusion.report.report import Options, write_report
    from superlora_diffusion.sweeps.folder import SweepFolder

    folder, title = SweepFolder(wish.out / wish.scale), f"The paper's experiment at scale {wish.scale}"
    whole = Options(wish.out / f"report-{wish.scale}.html", ("html", "csv"), None, title, published=True)
    written = write_report([folder.path], whole)["files"]
    moves = {line.setting: line.move.name for line in lines}
    for move in dict.fromkeys(moves.values()):
        rows = [row for row in result.rows if moves[row["setting"]] == move]
        cells = [folder.cell(f"{row['setting']}-seed{row['seed']}") for row in rows]
        out = wish.out / f"report-{wish.scale}-{move}.png"
        if cells:
            plot = Options(out, ("png",), "is_distance", f"{title}: {move}", published=True)
            written += write_report(cells, plot)["files"]
    return [Path(file["path"]) for file in written]


def exit_code(result: Result) -> int:
    for name, error in result.failed.items():
        print(f"failed: {name}: {error}", file=sys.stderr)
    if result.unfinished:
        left = len(result.unfinished)
        print(f"{left} runs are not finished. Run the same command again to go on.", file=sys.stderr)
        return 128 + (result.signal or 2)
    return 1 if result.failed else 0


# --- the dry run -------------------------------------------------------------------------------------------------


def estimate(sweep: SweepConfig, moves: Sequence[Move], options: argparse.Namespace) -> str:
    """How long it takes, in words, by a few steps timed here and now. Bases to come stand in with random weights."""
    from superlora_diffusion.devices import resolve_device
    from superlora_diffusion.sweeps.clock import clock
    from superlora_diffusion.sweeps.estimate import estimate_seconds
    from superlora_diffusion.sweeps.plan import make_jobs, plan_sweep
    from superlora_diffusion.sweeps.sweep import is_done

    bases = unfinished_bases(moves)
    if options.scale == "gpu" and resolve_device(options.device).type == "cpu":
        return "No estimate: at scale gpu a step is only timed on a GPU."
    threads, at_once = threads_of(options), options.processes or 1
    unscored = sweep.model_copy(update={"score": False})
    first = estimate_seconds(unscored, [as_job(config) for config in bases], options.device, threads)
    with TemporaryDirectory() as folder:
        standing = stand_in(sweep, bases, Path(folder))
        planned = plan_sweep(standing)
        jobs = [job for job in make_jobs(standing, planned) if not is_done(job)]
        then = estimate_seconds(standing, jobs, options.device, threads) / at_once
    names = ", ".join(config.output for config in bases)
    told = [f"pretrain {names}, about {clock(first)}"] if bases else []
    told.append(f"{len(jobs)} jobs of the sweep, about {clock(then)} with {at_once} at once")
    return f"To do: {'; '.join(told)} (measured just now)."


def as_job(config: RunConfig) -> Any:
    """A pretraining run as the sweep's estimate takes it."""
    from superlora_diffusion.sweeps.jobs import Job

    nowhere = Path(config.output)
    return Job(config.output, "cell", config.model_dump(mode="json"), nowhere, None, nowhere)


def stand_in(sweep: SweepConfig, bases: Sequence[RunConfig], folder: Path) -> SweepConfig:
    """The sweep on random networks in place of the bases that are not there yet."""
    from superlora_diffusion.models.storage import save_base
    from superlora_diffusion.runs.folder import RunFolder
    from superlora_diffusion.training.setup import load_or_build_base

    places = {}
    for number, config in enumerate(bases):
        places[str(RunFolder(config.output).result(config))] = str(folder / str(number))
        save_base(load_or_build_base(config), folder / str(number))
    settings = [
        setting.model_copy(update={"set": {key: _moved(value, places) for key, value in setting.set.items()}})
        for setting in sweep.settings
    ]
    return sweep.model_copy(update={"settings": tuple(settings)})


def _moved(value: Any, places: dict[str, str]) -> Any:
    return places.get(value, value) if isinstance(value, str) else value


# --- options -----------------------------------------------------------------------------------------------------


def parse_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    summary, examples = __doc__.split("Examples:")
    parser = argparse.ArgumentParser(
        description=summary,
        epilog="examples:" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--scale", choices=("gpu", "cpu"), required=True, help="the paper's own size, or the embedded base's")
    add("--direction", choices=(*DIRECTIONS, "both"), default="both", help="(default: %(default)s)")
    add("--target", choices=("mnist", "usps", "both"), help="handwriting moved to, at cpu (default: both)")
    add("--out", type=Path, default=Path("runs/paper"), help="folder of all of it (default: %(default)s)")
    add("--mnist-file", help=f"an npz, or a set's name (default: mnist at gpu, {MNIST} at cpu)")
    add("--usps-file", help=f"an npz, or a set's name (default: {USPS})")
    add(
        "--street", choices=("svhn", "synthdigits"), help="street numbers (default: svhn; at cpu synthdigits)"
    )
    add("--settings", type=_names, default=(), help="names of paper/sweeps/to-handwriting, with commas; all")
    add(
        "--pretrain-steps",
        type=_count,
        help=f"of each base (default: its config's; at cpu {CPU_PRETRAIN_STEPS})",
    )
    add(
        "--steps",
        type=_count,
        help=f"of each setting (default: its config's; at cpu {CPU_DEFAULTS['steps']})",
    )
    add("--batch-size", type=_count, help=f"(default: its config's; at cpu {CPU_DEFAULTS['batch_size']})")
    add("--race-steps", type=_count_or_none, help="of each try of a learning rate (default: its sweep's; at cpu "
        f"{CPU_DEFAULTS['race_steps']}); 0: no race, each method's default rate")  # fmt: skip
    add("--images", type=_count, help=f"scored (default: its config's; at cpu {CPU_DEFAULTS['images']})")
    add("--seeds", type=_seeds, help="with commas between (default: its sweep's; at cpu 0)")
    add("--processes", type=_count, help="runs at once (default: 1)")
    add("--threads", type=_count, help="CPU threads of each run (default: the cores shared out)")
    add("--device", default="auto", help="cpu, cuda, cuda:N, mps or auto (default: %(default)s)")
    add("--dry-run", action="store_true", help="print counts and an estimate of time; train nothing")
    add("--quiet", action="store_true", help="print errors alone")
    add(
        "overrides",
        nargs="*",
        metavar="KEY.PATH=VALUE",
        help="values of every adapter's run; data.* of all runs",
    )
    return parser.parse_intermixed_args(words)


def _count(text: str) -> int:
    return _whole(text, 1)


def _count_or_none(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"got {text!r}; a whole number of at least {least} is expected")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(_whole(word, 0) for word in _names(text))


def read_wish(options: argparse.Namespace) -> Wish:
    """The options as a wish, with the scale's defaults.

    Raises:
        ConfigError: for options that do not go with the scale.
    """
    from paper.experiment import Wish

    refuse_other_scale(options)
    cpu = options.scale == "cpu"
    defaults: dict[str, Any] = dict(CPU_DEFAULTS) if cpu else {}
    told = {key: getattr(options, key) for key in ("steps", "batch_size", "images", "race_steps", "seeds")}
    return Wish(
        scale=options.scale,
        directions=DIRECTIONS if options.direction == "both" else (options.direction,),
        out=options.out,
        handwriting=handwriting(options),
        street=options.street or ("synthdigits" if cpu else "svhn"),
        pretrain_steps=options.pretrain_steps or (CPU_PRETRAIN_STEPS if cpu else None),
        settings=options.settings,
        data=tuple(text for text in options.overrides if text.startswith("data.")),
        **{**defaults, **{key: value for key, value in told.items() if value is not None}},
    )


def refuse_other_scale(options: argparse.Namespace) -> None:
    """Raise ConfigError for options of the other scale."""
    from superlora_diffusion.errors import ConfigError

    if options.scale == "cpu" and options.street == "svhn":
        raise ConfigError(
            "--street svhn: for --scale gpu. The embedded base knows synthdigits; leave it out."
        )
    if options.scale == "gpu" and (options.target not in (None, "mnist") or options.usps_file):
        raise ConfigError(
            "USPS (--target, --usps-file): for --scale cpu. At scale gpu it is MNIST; leave it out."
        )


def handwriting(options: argparse.Namespace) -> dict[str, str]:
    """Sets of handwriting by what they are called; the first is also moved from."""
    mnist = as_data_name(options.mnist_file or (MNIST if options.scale == "cpu" else "mnist"))
    usps = as_data_name(options.usps_file or USPS)
    if options.scale == "gpu" or options.target == "mnist":
        return {"mnist": mnist}
    return {"usps": usps} if options.target == "usps" else {"mnist": mnist, "usps": usps}


def as_data_name(text: str) -> str:
    """A set's name as it is, a path as npz:PATH."""
    from superlora_diffusion.data.loading import LOADERS

    return text if text in LOADERS or text.startswith("npz:") else f"npz:{text}"


if __name__ == "__main__":
    sys.exit(main())
