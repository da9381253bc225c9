"""Finds the Debian mirrors this machine already uses, to fetch another release from the same place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kind.images.errors import ImageError


@dataclass(frozen=True)
class Source:
    """One entry of apt's sources: every URI offers every suite."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]


def parse_deb822(text: str) -> Iterator[Source]:
    """Yield the enabled binary entries of a ``.sources`` file (sources.list(5), deb822 style)."""
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false"):
            continue
        yield Source(
            tuple(fields.get("uris", "").split()),
            tuple(fields.get("suites", "").split()),
            tuple(fields.get("components", "").split()),
        )


def parse_list(text: str) -> Iterator[Source]:
    """Yield the binary entries of a ``.list`` file (sources.list(5), one-line style)."""
    for line in text.splitlines():
        words = re.sub(r"\[[^\]]*\]", " ", line.split("#", 1)[0]).split()
        if len(words) >= 4 and words[0] == "deb":
            yield Source((words[1],), (words[2],), tuple(words[3:]))


def read_sources(etc_apt: Path) -> list[Source]:
    """Read every entry apt would read below its configuration folder."""
    files = [etc_apt / "sources.list", *sorted((etc_apt / "sources.list.d").glob("*"))]
    found: list[Source] = []
    for file in files:
        if file.is_file() and file.suffix in (".list", ".sources"):
            parse = parse_deb822 if file.suffix == ".sources" else parse_list
            found += parse(file.read_text(encoding="utf-8", errors="replace"))
    return found


def read_os_release(text: str) -> dict[str, str]:
    """Parse os-release(5)."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def target_lines(sources: list[Source], codename: str, suite: str) -> list[str]:
    """Translate this machine's mirrors of its own release into source lines for another one.

    The security and updates pockets are used where the machine uses its own.

    Raises:
        ImageError: no entry serves the machine's own release.
    """
    lines: list[str] = []
    for pocket in ("", "-updates", "-security"):
        for source in sources:
            if f"{codename}{pocket}" in source.suites and "main" in source.components:
                lines.append(f"deb {source.uris[0]} {suite}{pocket} main")
                break
        else:
            if not pocket:
                raise ImageError(
                    f"apt's sources name no mirror with suite {codename} and component main; "
                    "pass --mirror with the address of a Debian mirror"
                )
    return lines


def mirrors(suite: str, mirror: str | None, root: Path = Path("/")) -> list[str]:
    """Return the source lines for a Debian suite: of the given mirror, or of the machine's own.

    Raises:
        ImageError: no mirror was given and this machine is not Debian or knows none.
    """
    if mirror:
        return [f"deb {mirror} {suite} main", f"deb {mirror} {suite}-updates main"]
    release: Mapping[str, str] = read_os_release((root / "etc/os-release").read_text(encoding="utf-8"))
    if release.get("ID") != "debian" or "VERSION_CODENAME" not in release:
        raise ImageError("this machine is not Debian: pass --mirror with the address of a Debian mirror")
    return target_lines(read_sources(root / "etc/apt"), release["VERSION_CODENAME"], suite)
