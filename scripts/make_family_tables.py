"""Write the tables of docs/guide/families.md: python scripts/make_family_tables.py

Facts come from the families themselves. The cells of the second table are tests; tests/docs/test_families_page.py looks
each of them up, and compares the page with what this writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from superlora_diffusion.models.families import all_families
from superlora_diffusion.models.families.family import Family

PAGE = Path(__file__).parent.parent / "docs" / "guide" / "families.md"
KINDS = {
    "ddpm": "pixels, classes",
    "unconditional": "pixels alone",
    "dit": "DiT",
    "sd": "SD 1, 2",
    "sdxl": "SD XL",
    "sd3": "SD 3",
}
CLASSES, TEXT = ("ddpm", "unconditional", "dit"), ("sd", "sdxl", "sd3")
YES = "yes"
_NO_LOADER = "no: diffusers loads no LoRA there"
_KOHYA = "not tested: diffusers reads no kohya file of SD 3; `import` does"


class Row(NamedTuple):
    """A verb, the test of each of its cells, and what is no test."""

    verb: str
    test: str
    otherwise: Mapping[str, str] = MappingProxyType({})


_MAIN, _OTHER, _OPTIONS = (
    f"tests/cli/{name}.py" for name in ("test_families", "test_families_exchange", "test_family_options")
)
ROWS = (
    Row("`train`", f"{_MAIN}::test_train"),
    Row("`train` goes on after a stop", f"{_MAIN}::test_resume"),
    Row("`sample`", f"{_MAIN}::test_sample"),
    Row("`eval-is`", f"{_MAIN}::test_eval_is"),
    Row("`inspect`", f"{_MAIN}::test_inspect"),
    Row("`merge`, read by diffusers", f"{_MAIN}::test_merge"),
    Row("`load_adapter` in another process", f"{_MAIN}::test_reload_elsewhere"),
    Row("`export --format peft`", f"{_OTHER}::test_export_peft"),
    Row("`export --format merged`", f"{_OTHER}::test_export_merged"),
    Row(
        "`export --format diffusers`", f"{_OTHER}::test_export_diffusers", dict.fromkeys(CLASSES, _NO_LOADER)
    ),
    Row(
        "`export --format kohya`",
        f"{_OTHER}::test_export_kohya",
        {**dict.fromkeys(CLASSES, _NO_LOADER), "sd3": _KOHYA},
    ),
    Row("`import` from PEFT", f"{_OTHER}::test_import_peft"),
    Row("`import` from diffusers", f"{_OTHER}::test_import_diffusers", dict.fromkeys(CLASSES, _NO_LOADER)),
    Row("`import` from kohya", f"{_OTHER}::test_import_kohya", dict.fromkeys(CLASSES, _NO_LOADER)),
    Row("`base.precision=bf16`", f"{_OPTIONS}::test_a_base_in_bf16"),
)
_NOISE = {"pixels": "as its schedule says", "stable-diffusion-3": "flow matching"}
_CACHED = {"class": "latents", "text": "latents, embeddings of captions"}


def facts() -> str:
    """What each family is."""
    lines = [
        "| family | network | told by | default targets | default sampling | noise | kept in the cache |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [f"| {' | '.join(_facts_of(family))} |" for family in _ordered()]
    return "\n".join(lines)


def _ordered() -> list[Family]:
    names = ["pixels", "dit", "stable-diffusion", "stable-diffusion-xl", "stable-diffusion-3"]
    return sorted(all_families(), key=lambda family: names.index(family.name))


def _facts_of(family: Family) -> list[str]:
    sampling = dict(family.sampling)
    drawn = f"{sampling.get('sampler', 'dpm++2m')}, {sampling['steps']} steps, scale {sampling['guidance_scale']:g}"
    cached = _CACHED[family.conditioning] if family.is_latent else "nothing"
    targets = ", ".join(f"`{target}`" for target in family.targets)
    noise = _NOISE.get(family.name, "epsilon or v, as its schedule says")
    return [family.title, f"`{family.network}`", family.conditioning, targets, drawn, noise, cached]


def verbs() -> str:
    """Which test shows that a verb works with a family."""
    lines = [
        f"| | {' | '.join(KINDS.values())} | test |",
        f"| --- |{' --- |' * len(KINDS)} --- |",
    ]
    for row in ROWS:
        cells = [row.otherwise.get(kind, YES) for kind in KINDS]
        lines.append(f"| {row.verb} | {' | '.join(cells)} | `{row.test}` |")
    return "\n".join(lines)


def with_tables(text: str) -> str:
    """A page with its tables made anew, between ``<!-- made: NAME -->`` and ``<!-- end -->``."""
    for name, table in {"facts": facts(), "verbs": verbs()}.items():
        start, end = f"<!-- made: {name} -->\n", "\n<!-- end -->"
        before, found, after = text.partition(start)
        assert found and end in after, f"{PAGE} has no place for {name}"
        text = f"{before}{start}\n{table}\n{end}{after.split(end, 1)[1]}"
    return text


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
