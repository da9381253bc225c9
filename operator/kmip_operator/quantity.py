"""Resource quantities as the API server writes them back, so that comparing with a live object finds no difference."""

from __future__ import annotations

import re
from decimal import Decimal

_FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMGTPE]i|[numkMGTPE]|[eE][0-9]+)?")
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def canonical(value: int | str) -> str:
    """The canonical form (``1024Mi`` → ``1Gi``, ``0.5`` → ``500m``): no fraction, the largest suffix possible.

    Raises:
        ValueError: it is not a quantity.
    """
    match = _FORM.fullmatch(str(value))
    if match is None:
        raise ValueError(f"not a quantity: {value!r}")
    number, suffix = Decimal(match.group(1)), match.group(2) or ""
    if suffix in _BINARY[1:]:
        return _binary(number * 1024 ** _BINARY.index(suffix))
    exponent = int(suffix[1:]) if suffix[:1] in {"e", "E"} and suffix[1:] else _DECIMAL[suffix]
    return _decimal(number.scaleb(exponent), scientific=suffix[:1] in {"e", "E"} and bool(suffix[1:]))


def _binary(amount: Decimal) -> str:
    if amount != amount.to_integral_value():
        return _decimal(amount, scientific=False)
    whole, index = int(amount), 0
    while whole and whole % 1024 == 0 and index < len(_BINARY) - 1:
        whole, index = whole // 1024, index + 1
    return f"{whole}{_BINARY[index]}"


def _decimal(amount: Decimal, *, scientific: bool) -> str:
    if amount == 0:
        return "0"
    for suffix, exponent in reversed(_DECIMAL.items()):
        scaled = amount.scaleb(-exponent)
        if scaled == scaled.to_integral_value():
            mark = f"e{exponent}" if scientific and exponent else suffix
            return f"{int(scaled)}{mark}"
    # Finer than a nano: the API server rounds up to one.
    return f"{int(amount.scaleb(9)) + 1}n"
