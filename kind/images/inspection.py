"""Findings about an unpacked image that need no program of it to run."""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

_SHELLS = re.compile(r"^(ba|da|z|k|c|tc|fi)?sh$|^busybox$")
_ELF = b"\x7fELF"


def _files(root: Path) -> Iterator[Path]:
    return (path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink())


def bad_modes(root: Path) -> list[str]:
    """List files that another uid cannot read, or that grant something: setuid, setgid, writable by others."""
    found: list[str] = []
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            continue
        readable = mode & (0o005 if path.is_dir() else 0o004)
        sticky = path.is_dir() and mode & stat.S_ISVTX
        if not readable or mode & (stat.S_ISUID | stat.S_ISGID) or (mode & 0o022 and not sticky):
            found.append(f"{path.relative_to(root)} has mode {stat.filemode(mode)}")
    return found


def dangling(root: Path) -> list[str]:
    """List symbolic links whose target is not in the image; proc and dev come at run time."""
    found: list[str] = []
    for path in root.rglob("*"):
        if path.is_symlink():
            target = path.readlink()
            place = root / target.relative_to("/") if target.is_absolute() else path.parent / target
            if not place.exists() and not str(target).startswith(("/proc", "/dev")):
                found.append(f"{path.relative_to(root)} leads to {target}, which is not there")
    return found


def shells(root: Path) -> list[str]:
    """List programs that are a shell."""
    places = (root / "usr/bin", root / "usr/local/bin", root / "usr/sbin")
    return [str(path.relative_to(root)) for place in places for path in place.glob("*") if _SHELLS.match(path.name)]


def missing_libraries(root: Path) -> list[str]:
    """List shared libraries that a program or library of the image asks for and nobody brings.

    Raises:
        OSError: readelf is not installed.
    """
    objects: list[str] = []
    for path in _files(root):
        with path.open("rb") as file:
            if file.read(4) == _ELF:
                objects.append(str(path))
    if not objects:
        return []
    output = subprocess.run(
        ["readelf", "--dynamic", "--wide", *objects], check=False, capture_output=True, text=True
    ).stdout
    held = {path.name for path in root.rglob("*.so*")}
    wanted = set(re.findall(r"\(NEEDED\)\s+Shared library: \[([^\]]+)\]", output))
    return sorted(f"{name} is needed and not there" for name in wanted - held)
