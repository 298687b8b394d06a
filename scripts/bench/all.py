"""Run every bench and write docs/benchmarks.md: what `make bench` does.

Run: python scripts/bench/all.py [--quick] [--only step,memory] [--device cuda] [--out docs/benchmarks.md]
A bench that was run already is not run again unless its section is deleted from the folder of sections (--sections).
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

PLOT = "benchmarks/growth.png"
BENCHES = {
    "step-16px": ["--only", "step-16px"], "step-paper": ["--only", "step-paper"],
    "routes": ["--routes", "--only", "step-16px"], "generation": [], "memory": [], "sampling": [], "around": [],
    "growth": ["--plot", f"docs/{PLOT}"], "compiled": [], "counting": [], "bank": [],
}  # fmt: skip
HERE = Path(__file__).parent
INTRODUCTION = """# Benchmarks

Every figure is a ratio of two things measured in the same run, in turns: the median over the rounds, and half the
distance of the quartiles. Absolute times mean little on a shared machine and are left out. `make bench` runs all of it
and writes this file; `python scripts/bench/NAME.py --quick` gives one table in under 45 seconds. "kept" compares with
the target that was set beforehand: where it says "no", that is what was measured.

{machine}

"""


def main() -> None:
    options = parse_options()
    wanted = options.only.split(",") if options.only else list(BENCHES)
    for name in wanted:
        section = options.sections / f"{name}.md"
        if section.exists():
            print(f"{name}: {section} is there already")
            continue
        script = HERE / f"{'step' if '--only' in BENCHES[name] else name}.py"
        command = [
            sys.executable,
            str(script),
            *BENCHES[name],
            "--device",
            options.device,
            "--markdown",
            str(section),
        ]
        subprocess.run([*command, *(["--quick"] if options.quick else [])], check=True)
    sections = [options.sections / f"{name}.md" for name in BENCHES]
    text = "\n".join(section.read_text() for section in sections if section.exists())
    if (options.out.parent / PLOT).exists():
        text += f"\n![Time and memory against the number of weights]({PLOT})\n"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(INTRODUCTION.format(machine=machine()) + text)
    print(f"written: {options.out}")


def machine() -> str:
    """What the figures were measured on."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "diffusers", "peft", "lycoris-lora"))
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())  # fmt: skip
    return f"Machine: {cpu}, {versions}, Python {platform.python_version()}."


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="under 45 seconds a bench")
    parser.add_argument("--only", help=f"comma-separated, of {', '.join(BENCHES)}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument(
        "--sections", type=Path, default=Path("runs/bench"), help="where finished sections are kept"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
