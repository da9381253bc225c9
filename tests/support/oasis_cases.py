"""The published OASIS KMIP test cases that this server is expected to pass, by version.

Absent are cases that need an operation this server does not have (Query cases that list one, too), answers nobody can give
(a document that prints an encrypted key where the plain one was registered, or another protocol version than was asked),
an operator's preparations, Undo, or facts that are not this server's (its random number generator, its profiles).
"""

from __future__ import annotations

from typing import Final


def _numbered(family: str, numbers: range | list[int], version: str) -> list[str]:
    return [f"{family}-{number}-{version}" for number in numbers]


_FOUNDRY: Final = range(1, 13)
_DOCUMENT: Final = ["41", "61", "71", "72", "82", "111", "131", "132", "311", "312", "313", "314", "315", "ECC-1"]

EXPECTED: Final[dict[str, list[str]]] = {
    "1.0": [
        *_numbered("OMOS-M", [1], "10"),
        *_numbered("OMOS-O", [1], "10"),
        *_numbered("SASED-M", [1, 2, 3], "10"),
        *_numbered("SKFF-M", _FOUNDRY, "10"),
        *_numbered("SKFF-O", range(1, 7), "10"),
        *_numbered("SKLC-M", [1, 2, 3], "10"),
        *_numbered("SKLC-O", [1], "10"),
        *_numbered("TL-M", [2, 3], "10"),
        *[f"TC-{case}-10" for case in [*_DOCUMENT, "ECC-2"]],
    ],
    "1.2": [
        *_numbered("OMOS-M", [1], "12"),
        *_numbered("OMOS-O", [1], "12"),
        *_numbered("SKFF-M", _FOUNDRY, "12"),
        *_numbered("SKFF-O", range(1, 7), "12"),
        *_numbered("SKLC-M", [1, 2, 3], "12"),
        *_numbered("SKLC-O", [1], "12"),
        *[f"TC-{case}-12" for case in [*_DOCUMENT, "122", "141", "152", "153", "161", "171", "181", "182", "ECC-3"]],
        *_numbered("TC-MDO", [1, 2, 3], "12"),
        "TC-PGP-1-12",
        "TC-311-10",
    ],
    "1.4": [
        "OMOS-M-1-14",
        *_numbered("SASED-M", [1, 2, 3], "14"),
        *_numbered("SKFF-M", range(1, 10), "14"),
        *_numbered("SKLC-M", [1, 2, 3], "14"),
        "TL-M-2-14",
        *[f"TC-I18N-1-1{minor}" for minor in range(5)],
        *[f"TC-I18N-2-1{minor}" for minor in range(2, 5)],
        *[f"TC-I18N-3-1{minor}" for minor in range(5)],
        *_numbered("TC-MDO", [1, 2, 3], "14"),
        *_numbered("TC-OFFSET", [1, 2], "14"),
        *_numbered("TC-WRAP", [1, 2], "14"),
        "TC-CS-CORVAL-1-14",
        "TC-ECC-1-14",
        "TC-EXTRACTABLE-1-14",
        "TC-PGP-1-14",
        *_numbered("TC-Q-CAP", [1, 2, 3], "14"),
        "TC-Q-RNGS-1-14",
        "TC-Q-VAL-2-14",
        "TC-RNG-ATTR-1-14",
        "TC-SENSITIVE-1-14",
    ],
}
