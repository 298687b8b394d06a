"""Which packages the project needs and which are there, by the installed metadata: nothing is imported."""

from __future__ import annotations

import importlib.metadata as installed
import platform
from collections.abc import Iterable
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.version import Version

DISTRIBUTION = "superlora-diffusion"
EXTRA_NOTES = {
    "app": "the page in the browser: superlora-diff app",
    "dev": "tests and style checks of the project itself",
    "docs": "building these documents as a site: make docs",
    "peers": "other methods to compare with: method=peft, method=lycoris",
    "8bit": "AdamW with its state in 8 bits: train.optimizer=adamw8bit",
    "ray": "sweeps on a cluster: superlora-diff sweep --runner ray",
    "tensorboard": "curves in TensorBoard: log.trackers=[tensorboard]",
}
"""What an extra is for. Which extras there are, and what is in them, the package's metadata says."""


@dataclass(frozen=True)
class Package:
    """One requirement, and what is installed of it."""

    name: str
    accepted: str
    """Versions that do, such as ">=2.9"; empty for any."""
    version: str | None
    """The installed one, or None."""

    @property
    def fits(self) -> bool:
        """Whether it is there in a version that does."""
        return self.version is not None and Requirement(self.name + self.accepted).specifier.contains(
            self.version, prereleases=True
        )

    @property
    def fault(self) -> str | None:
        """What is wrong and what to do, or None."""
        if self.fits:
            return None
        came = (
            "is not installed" if self.version is None else f"is {self.version}, which is too old or too new"
        )
        wish = f"{self.name}{self.accepted}"
        return f"{self.name} {came}; {wish} is needed: pip install '{wish}'"


@dataclass(frozen=True)
class Extra:
    """An optional part of the package."""

    name: str
    packages: tuple[Package, ...]

    @property
    def complete(self) -> bool:
        return all(package.fits for package in self.packages)

    @property
    def note(self) -> str:
        """What it is for, in words."""
        return EXTRA_NOTES.get(self.name, "")

    @property
    def pip_line(self) -> str:
        """What installs it."""
        return f"pip install '{DISTRIBUTION}[{self.name}]'"


def python_fault() -> str | None:
    """What is wrong with this Python, or None."""
    accepted = installed.metadata(DISTRIBUTION).get("Requires-Python", "")
    if Requirement(f"python{accepted}").specifier.contains(
        Version(platform.python_version()), prereleases=True
    ):
        return None
    return f"Python is {platform.python_version()}; {accepted} is needed: make a new environment with another Python"


def required_packages(lines: Iterable[str] | None = None) -> list[Package]:
    """What has to be installed; ``lines`` are requirements as package metadata has them (None: our own)."""
    return [look_up(line) for line in _own(lines) if _here(line)]


def list_extras(lines: Iterable[str] | None = None) -> list[Extra]:
    """The extras in the metadata's order of names, each with its packages."""
    members: dict[str, list[Package]] = {}
    for line in _own(lines):
        extra = _extra_of(line)
        if extra is not None and _here(line, extra):
            members.setdefault(extra, []).append(look_up(line))
    return [Extra(name, tuple(found)) for name, found in sorted(members.items())]


def look_up(line: str) -> Package:
    """A requirement beside the version that is installed."""
    wish = Requirement(line)
    return Package(wish.name, str(wish.specifier), version_of(wish.name))


def version_of(name: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return installed.version(name)
    except installed.PackageNotFoundError:
        return None


def _own(lines: Iterable[str] | None) -> list[str]:
    return list(installed.requires(DISTRIBUTION) or ()) if lines is None else list(lines)


def _extra_of(line: str) -> str | None:
    """The extra that a requirement belongs to: the one under which its marker holds, and without which it does not."""
    marker = Requirement(line).marker
    if marker is None or "extra" not in str(marker):
        return None
    return str(marker).rpartition("extra ==")[2].strip(" \"')")


def _here(line: str, extra: str = "") -> bool:
    """Whether a requirement is meant for this system and Python at all."""
    marker = Requirement(line).marker
    return marker is None or marker.evaluate({"extra": extra})
