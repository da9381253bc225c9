"""The wheels of the project's dependencies, installed by the host's pip for the image's interpreter, then trimmed."""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import sys
import tomllib
from collections.abc import Iterable, Sequence
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from kind.images.errors import ImageError
from kind.images.model import PYTHON
from kind.images.paths import Selection, words
from kind.images.run import run

NEEDS = {"strip": "binutils"}
# Oldest C library the wheels may ask for, newest first; Debian 13 has 2.41.
_PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")

# The operator speaks to the API server by dictionaries (the dynamic client): the generated classes of every kind, 70 MB, are
# left out but for the two that kopf names and what the clients load at import.
_KUBERNETES_KEEP = words(
    """
    kubernetes/client/models/__init__.py kubernetes/client/api/__init__.py
    kubernetes/aio/client/models/__init__.py kubernetes/aio/client/api/__init__.py
    kubernetes/*client/models/v1_object_meta.py kubernetes/*client/models/v1_owner_reference.py
    kubernetes/*client/models/v1_managed_fields_entry.py
    """
)
TRIM = Selection(
    drop=words(
        """
        bin/* */__pycache__/* *.pyi *.pyx *.pxd *.pxi *.c *.h *.cpp *.a *.dist-info/RECORD
        *.dist-info/INSTALLER *.dist-info/REQUESTED *.dist-info/direct_url.json *.dist-info/sboms/*
        */tests/* tzdata/zoneinfo/* *-stubs/* kubernetes/client/models/* kubernetes/client/api/*
        kubernetes/aio/client/models/* kubernetes/aio/client/api/*
        """
    ),
    keep=_KUBERNETES_KEEP,
)


def read_project(root: Path) -> dict[str, Any]:
    """Return the ``project`` table of the distribution's pyproject.toml."""
    table = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if not isinstance(table, dict):
        raise ImageError("pyproject.toml: project is not a table")
    return table


def requirements(project: dict[str, Any], extras: Iterable[str]) -> list[str]:
    """Return the requirements of the distribution with some extras.

    Raises:
        ImageError: an extra does not exist.
    """
    wanted = list(project["dependencies"])
    for extra in extras:
        if extra not in project["optional-dependencies"]:
            raise ImageError(f"pyproject.toml has no extra {extra}")
        wanted += project["optional-dependencies"][extra]
    return sorted(set(wanted))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(constraints: str) -> dict[str, str]:
    """Read ``name==version`` lines into normalised names (PEP 503) and versions."""
    lines = (line.split("#", 1)[0].split(";", 1)[0].strip() for line in constraints.splitlines())
    pairs = (line.split("==", 1) for line in lines if "==" in line)
    return {_normal(name.strip()): version.strip() for name, version in pairs}


def unpinned(site: Path, allowed: dict[str, str]) -> list[str]:
    """List what was installed at a version that the constraints do not name."""
    found: list[str] = []
    for metadata in sorted(site.glob("*.dist-info/METADATA")):
        headers = HeaderParser().parsestr(metadata.read_text(encoding="utf-8"))
        if allowed.get(_normal(headers["Name"])) != headers["Version"]:
            found.append(f"{headers['Name']}=={headers['Version']}")
    return found


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    if found is None:
        raise ImageError("pip is not installed: install the package python3-pip")
    return [found]


def install(wanted: Sequence[str], constraints: Path, site: Path) -> None:
    """Install wheels for the image's interpreter and this machine's architecture; nothing is built or run.

    Raises:
        ImageError: pip fails, or something it chose is not pinned.
    """
    argv = [*_pip(), "install", "--quiet", "--no-compile", "--disable-pip-version-check", "--root-user-action=ignore"]
    argv += ["--target", str(site), "--python-version", PYTHON, "--implementation", "cp", "--only-binary=:all:"]
    for name in _PLATFORMS:
        argv += ["--platform", f"{name}_{platform.machine()}"]
    run([*argv, "--constraint", str(constraints), *wanted])
    loose = unpinned(site, pins(constraints.read_text(encoding="utf-8")))
    if loose:
        raise ImageError(f"constraints.txt does not pin {', '.join(loose)}")


def trim(site: Path, select: Selection = TRIM, without: Iterable[str] = ()) -> None:
    """Remove what an image does not need, and what a layer below already holds, then the symbols of shared objects."""
    held = set(without)
    for path in sorted(site.rglob("*"), reverse=True):
        name = path.relative_to(site).as_posix()
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif name in held or not select.allows(name):
            path.unlink()
    objects = sorted(str(path) for path in site.rglob("*.so*") if path.is_file() and not path.is_symlink())
    if objects:
        run(["strip", "--strip-unneeded", *objects])
