"""front.csv and front.md as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from superlora_diffusion.files import csv_text
from superlora_diffusion.sweeps.results import COLUMNS

from .gather import Gathered, protocol_of
from .ratios import (
    MEASURES,
    SCORES,
    Reference,
    Setting,
    gain_reference,
    known_number,
    next_smaller,
    ratio,
    reference_of,
    smallest_no_worse,
)

WORDS = {
    "val_loss": "val. loss",
    "is_distance": "IS distance",
    "fid": "FID",
    "kid": "KID",
    "accuracy": "accuracy",
}
DIGITS = {"val_loss": 4, "is_distance": 3, "fid": 2, "kid": 4}
RANKS = tuple(f"lora-r{rank}" for rank in (1, 2, 4, 8, 16))


def as_csv(comparisons: Sequence[Gathered]) -> str:
    """A row a run, target by target; what is not known is empty."""
    return csv_text(COLUMNS, (run.values for gathered in comparisons for run in gathered.runs))


def as_markdown(gathered: Gathered, settings: Sequence[Setting], base: Mapping[str, float | None]) -> str:
    """Both tables of a target with how all was measured, what made it and what was left out."""
    parts = [
        f"## {gathered.target}",
        settings_table(settings, base),
        f"Mean ± sample standard deviation over seeds. {protocol_text(gathered)}",
        _commands(gathered),
        *([f"Left out, without scores: {'; '.join(gathered.left_out)}."] if gathered.left_out else []),
        ratios_table(settings, base),
        "A setting of ours stands for a reference where no mean is worse, without any tolerance, and all of its seeds "
        "were run. The ratio is the reference's parameters over ours.",
    ]
    return "\n\n".join(parts) + "\n"


def settings_table(settings: Sequence[Setting], base: Mapping[str, float | None]) -> str:
    """A row a setting; the untrained base first, where any of its scores is known."""
    head = ("setting", "family", "parameters", "rate", "seeds", *(WORDS[name] for name in SCORES))
    rows = (
        [_row(("base", "", "0", "", "", *(_number(name, base.get(name)) for name in SCORES)))] if base else []
    )
    return "\n".join([_row(head), _row(["---"] * len(head)), *rows, *map(_setting_row, settings)])


def _setting_row(one: Setting) -> str:
    rates = ", ".join(f"{rate:g}" for rate in one.rates)
    scores = (_number(name, one.means.get(name), one.deviations.get(name)) for name in SCORES)
    return _row((one.name, one.family, f"{one.parameters:,}", rates, str(len(one.seeds)), *scores))


def _number(name: str, mean: float | None, deviation: float | None = None) -> str:
    if not known_number(mean):
        return ""
    if name == "accuracy":
        return f"{100 * mean:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}") + " %"
    digits = DIGITS[name]
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def _row(words: Sequence[str]) -> str:
    # An empty cell is one space between bars, as elsewhere in the docs.
    return "|" + "|".join(f" {word} " if word else " " for word in words) + "|"


def ratios_table(settings: Sequence[Setting], base: Mapping[str, float | None]) -> str:
    """For each reference the smallest setting of ours that is no worse: in all it is judged by, and in each alone."""
    known = {one.name: one for one in settings}
    ours = [one for one in settings if one.family == "superlora"]
    ours_words = ("ours, no worse in all", "parameters", "ratio", "the next smaller fail in")
    head = ("at the quality of", "parameters", *ours_words, *(f"by {WORDS[name]} alone" for name in MEASURES))
    rows = [
        _ratio_row(reference_of(known[name]), ours) if name in known else _unknown_row(name) for name in RANKS
    ]
    if "dense" in known:
        rows.append(_gain_row(gain_reference(known["dense"], base), ours))
    else:
        rows.append(_unknown_row("95 % of dense's gain"))
    return "\n".join([_row(head), _row(["---"] * len(head)), *rows])


def _unknown_row(name: str) -> str:
    return _row((name, "not run", *[""] * 7))


def _gain_row(reference: Reference, ours: Sequence[Setting]) -> str:
    """Like any other, with what has to be reached; without a gain there is nothing to compare with."""
    unknown = [WORDS[name] for name in reference.measures if reference.values[name] is None]
    if unknown:
        return _row((f"{reference.name}: {', '.join(unknown)} of the base not known, or no gain", *[""] * 8))
    needed = ", ".join(
        f"{WORDS[name]} {_number(name, reference.values[name])}" for name in reference.measures
    )
    return _ratio_row(reference, ours, f" ({needed})")


def _ratio_row(reference: Reference, ours: Sequence[Setting], needed: str = "") -> str:
    found = smallest_no_worse(ours, reference)
    alone = (_alone(reference, ours, name) for name in MEASURES)
    smaller = "; ".join(
        f"{one.name} ({one.parameters:,}): {_words(reasons)}"
        for one, reasons in next_smaller(ours, reference, found)
    )
    times = ratio(reference.parameters, found)
    own = ("none", "", "") if found is None else (found.name, f"{found.parameters:,}", _times(times))
    return _row((reference.name + needed, f"{reference.parameters:,}", *own, smaller, *alone))


def _alone(reference: Reference, ours: Sequence[Setting], name: str) -> str:
    found = smallest_no_worse(ours, reference, (name,))
    times = ratio(reference.parameters, found)
    return "none" if found is None else f"{found.name} ({found.parameters:,}): {_times(times)}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _words(reasons: Sequence[str]) -> str:
    return ", ".join(WORDS.get(reason, reason) for reason in reasons) or "nothing"


def best_of_ours(settings: Sequence[Setting]) -> str | None:
    """The setting whose pictures are shown: the smallest as good as LoRA rank 8; without one, that of least loss."""
    ours = [one for one in settings if one.family == "superlora"]
    rank8 = next((one for one in settings if one.name == "lora-r8"), None)
    found = smallest_no_worse(ours, reference_of(rank8)) if rank8 else None
    found = found or min(ours, key=lambda one: one.means["val_loss"], default=None)
    return found.name if found else None


def protocol_text(gathered: Gathered) -> str:
    told: dict[str, Any] = {}
    for run in gathered.runs:
        told |= protocol_of(run)
    return (
        f"Base {told['base.path']}, data {gathered.target}, {told['train.steps']} steps of {told['train.batch_size']}; "
        f"{told['sampling.sampler']} {told['sampling.steps']} steps, guidance {told['sampling.guidance_scale']}, "
        f"N {told.get('N', told['evaluation.images'])} in {told['evaluation.splits']} splits, "
        f"extractor {told['evaluation.extractor']} {told.get('extractor', '')}".rstrip()
        + f"; validation on {told['validation.images']} images."
    )


def _commands(gathered: Gathered) -> str:
    """The sweep that made each setting."""
    made: dict[str, dict[str, None]] = {}
    for run in gathered.runs:
        made.setdefault(run.sweep.name, {})[run.values["setting"]] = None
    lines = (
        f"- `superlora-diff sweep --config {sweep}/sweep.yaml`: {', '.join(names)}"
        for sweep, names in made.items()
    )
    return "Made by:\n\n" + "\n".join(lines)
