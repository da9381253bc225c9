"""Protocol versions as numbers that compare: ten times the major plus the minor version."""

from __future__ import annotations

from typing import Final

Version = int
"""A version such as 14 for KMIP 1.4; minor versions above 9 do not exist."""

V1_0: Final = 10
V1_1: Final = 11
V1_2: Final = 12
V1_3: Final = 13
V1_4: Final = 14
V2_0: Final = 20
V2_1: Final = 21

SUPPORTED: Final[tuple[Version, ...]] = (V1_4, V1_3, V1_2, V1_1, V1_0)
"""What this server speaks, best first."""


def version_of(major: int, minor: int) -> Version:
    """The number of a protocol version; 0 for one that cannot exist."""
    return major * 10 + minor if 0 <= minor <= 9 and 0 < major < 100 else 0


def text_of(version: Version) -> str:
    """The version as people write it, ``1.4``."""
    return f"{version // 10}.{version % 10}"
