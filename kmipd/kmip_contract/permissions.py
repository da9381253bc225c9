"""What a client certificate may do: KMIP operation names, and the profiles that stand for a list of them."""

from __future__ import annotations

from enum import StrEnum


class PermissionProfile(StrEnum):
    """A named set of KMIP operations."""

    VSPHERE = "VSphere"
    READ_ONLY = "ReadOnly"
    FULL = "Full"


# Any authenticated client may ask what the server speaks (KMIP 1.4 §4.25, §4.26).
ALWAYS_PERMITTED = frozenset({"DiscoverVersions", "Query"})

OPERATIONS = frozenset(
    {
        "Create",
        "Register",
        "Get",
        "GetAttributes",
        "GetAttributeList",
        "AddAttribute",
        "ModifyAttribute",
        "DeleteAttribute",
        "Locate",
        "Activate",
        "Revoke",
        "Destroy",
    }
)

# vCenter and ESXi use Create, Get, GetAttributes, AddAttribute and Activate; from 8.0.1 an API caller may set a key's
# custom attributes again. They never revoke or destroy: a stolen vCenter certificate cannot delete a key.
_VSPHERE = frozenset(
    {
        "Create",
        "Get",
        "GetAttributes",
        "GetAttributeList",
        "AddAttribute",
        "ModifyAttribute",
        "DeleteAttribute",
        "Locate",
        "Activate",
    }
)
_READ_ONLY = frozenset({"Get", "GetAttributes", "GetAttributeList", "Locate"})

PROFILES: dict[PermissionProfile, frozenset[str]] = {
    PermissionProfile.VSPHERE: _VSPHERE,
    PermissionProfile.READ_ONLY: _READ_ONLY,
    PermissionProfile.FULL: OPERATIONS,
}
