"""Kinds of layers and what an image is, without any particular one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kind.images.paths import Selection

SUITE = "trixie"
PYTHON = "3.13"
REPOSITORY = "localhost/kmip-operator"
# Any uid works; this one is used where the pod names none. It is the "nonroot" of other small images.
USER = "65532:65532"
# Python of Debian looks here on its own, so an isolated interpreter (-I) finds the code without a variable.
SITE = f"usr/local/lib/python{PYTHON}/dist-packages"


@dataclass(frozen=True)
class DebianLayer:
    """Files of these packages, no more; a dependency that is not named is left out on purpose."""

    name: str
    packages: tuple[str, ...]
    select: Selection
    files: Mapping[str, str] = field(default_factory=dict)
    # Name to target; MULTIARCH stands for the architecture's library folder, such as x86_64-linux-gnu.
    links: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    # Concatenates the authorities of ca-certificates, as its maintainer script would.
    authorities: bool = False
    # Folders whose modules are compiled ahead, by the interpreter of the image.
    compile: tuple[str, ...] = ()


@dataclass(frozen=True)
class WheelLayer:
    """The wheels of the project's own dependencies and of these extras, without what the layer below holds."""

    name: str
    extras: tuple[str, ...]
    below: str | None = None


@dataclass(frozen=True)
class CodeLayer:
    """Packages of the project, with the metadata and the start script of one program."""

    name: str
    packages: tuple[str, ...]
    script: str


Layer = DebianLayer | WheelLayer | CodeLayer


@dataclass(frozen=True)
class Image:
    """An image: its layers from the bottom, and how it starts."""

    name: str
    title: str
    layers: tuple[str, ...]
    entrypoint: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    def reference(self, tag: str) -> str:
        """Return the full name, such as ``localhost/kmip-operator/kmipd:dev``."""
        return f"{REPOSITORY}/{self.name}:{tag}"

    def environment(self) -> dict[str, str]:
        """Return the variables set in the image."""
        # No home: a random uid has none, and nothing may be read from or written to one.
        base = {"PATH": "/usr/local/bin:/usr/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent"}
        return base | dict(self.env)
