"""IBM Cloud regions and services as data: what kind of region, which services, until when.

As of 2026-08: "IBM Cloud locations", "Regions and endpoints" of Key Protect and Hyper Protect Crypto Services.
"""

from __future__ import annotations

from datetime import date
from typing import Literal, NamedTuple

Service = Literal["Standard", "Dedicated", "HyperProtect"]


class Region(NamedTuple):
    """``kind``: an MZR has three zones far from each other; a single-campus MZR (SC-MZR) has them on one site."""

    name: str
    kind: Literal["MZR", "SC-MZR"]
    services: frozenset[Service]

    @property
    def zones(self) -> tuple[str, str, str]:
        """Names of its zones."""
        return (f"{self.name}-1", f"{self.name}-2", f"{self.name}-3")


_ALL: frozenset[Service] = frozenset({"Standard", "Dedicated", "HyperProtect"})
_NO_DEDICATED: frozenset[Service] = frozenset({"Standard", "HyperProtect"})
_STANDARD: frozenset[Service] = frozenset({"Standard"})

REGIONS = {
    region.name: region
    for region in (
        Region("us-south", "MZR", _ALL),
        Region("us-east", "MZR", _ALL),
        Region("eu-de", "MZR", _ALL),
        Region("eu-es", "MZR", _ALL),
        Region("eu-gb", "MZR", _NO_DEDICATED),
        Region("ca-tor", "MZR", _NO_DEDICATED),
        Region("br-sao", "MZR", _NO_DEDICATED),
        Region("jp-tok", "MZR", _NO_DEDICATED),
        Region("au-syd", "MZR", _NO_DEDICATED),
        Region("jp-osa", "SC-MZR", _STANDARD),
        Region("ca-mon", "SC-MZR", _STANDARD),
        Region("in-che", "SC-MZR", _STANDARD),
        Region("in-mum", "SC-MZR", _STANDARD),
    )
}

END_OF_SERVICE: dict[Service, date] = {"HyperProtect": date(2027, 3, 28)}
"""Hyper Protect Crypto Services takes no new instances since 2026-03-28; those there are deleted on this day."""

NAMES: dict[Service, str] = {
    "Standard": "Key Protect",
    "Dedicated": "Key Protect Dedicated",
    "HyperProtect": "Hyper Protect Crypto Services",
}


def describe(service: Service, region: str | None) -> str:
    """The service, its region and what there is to know of both, for a person."""
    facts = [NAMES[service]]
    known = REGIONS.get(region or "")
    if known is not None:
        facts.append(f"{known.name} ({known.kind})")
        if service not in known.services:
            facts.append("not offered there")
    elif region:
        facts.append(f"{region} (not a region known to this release)")
    end = END_OF_SERVICE.get(service)
    if end is not None:
        facts.append(f"ends {end.isoformat()}")
    return ", ".join(facts)
