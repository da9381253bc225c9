"""What Vault's answers mean. Texts are those of Vault 1.12 to 1.13 and OpenBao 2, which share the transit engine's code."""

from __future__ import annotations

from kmip_contract.rootkey import CustodyErrorKind
from kmip_custody.errors import CustodyError
from kmip_custody.providers.http import Answer

ABSENT = ("encryption key not found", "unknown key type", "policy not found", "no existing key named")
"""No such key. The second: `encrypt` would make one, but is told a type that does not exist (see the provider)."""

NO_MOUNT = "no handler for route"
TOO_OLD = "disallowed by policy (too old)"

_FALSE = ("message authentication failed", "invalid ciphertext", "unable to decode", "illegal base64")
_MOST = 300
"""Characters of Vault's own words in a message."""


def words(answer: Answer) -> str:
    """The answer's errors as one line."""
    errors = answer.body.get("errors")
    listed = [error for error in errors if isinstance(error, str)] if isinstance(errors, list) else []
    return " ".join("; ".join(listed).split())[:_MOST]


def classify(answer: Answer, doing: str) -> CustodyError:
    """An answer that is no success, as an error. Absence, 403 and a sealed server are told apart by the caller before."""
    said = words(answer)
    status, detail = answer.status, f" ({said})" if said else ""
    if status == 403:
        return CustodyError(
            CustodyErrorKind.AUTHORIZATION_LOST,
            f"{doing}: Vault permits it no longer to this token{detail}; check the token's policies",
        )
    if status == 429:
        return CustodyError(CustodyErrorKind.THROTTLED, f"{doing}: Vault asks to slow down{detail}; raise its quota")
    if status == 503:
        return CustodyError(CustodyErrorKind.UNAVAILABLE, f"{doing}: Vault is sealed or starting{detail}; unseal it")
    if status in {301, 302, 307, 308}:
        return CustodyError(
            CustodyErrorKind.UNAVAILABLE,
            f"{doing}: this Vault is a standby that does not forward; give the active one's address or a load balancer's",
        )
    if NO_MOUNT in said:
        return CustodyError(
            CustodyErrorKind.CONFIGURATION,
            f"{doing}: no secrets engine is mounted there{detail}; check mount and namespace",
        )
    if status in {400, 404, 405}:
        return CustodyError(CustodyErrorKind.CONFIGURATION, f"{doing}: Vault refused with status {status}{detail}")
    return CustodyError(CustodyErrorKind.UNAVAILABLE, f"{doing}: Vault answered status {status}{detail}; see its log")


def classify_item(text: str, doing: str) -> CustodyError:
    """The error of one item of a batch."""
    said = " ".join(text.split())[:_MOST]
    if any(part in said for part in _FALSE):
        return CustodyError(
            CustodyErrorKind.INTEGRITY,
            "the record does not belong to this object, was changed, or was wrapped by another key of the same name",
        )
    if TOO_OLD in said:
        return CustodyError(
            CustodyErrorKind.ROOT_KEY_DISABLED,
            f"{doing}: the key's min_decryption_version forbids the version; lower it",
        )
    return CustodyError(
        CustodyErrorKind.UNAVAILABLE, f"{doing}: Vault answered {said!r}; check the key's configuration"
    )


def strange(doing: str, why: str) -> CustodyError:
    """An answer that is not what Vault's API promises."""
    return CustodyError(
        CustodyErrorKind.UNAVAILABLE, f"{doing}: the answer is not what Vault gives ({why}); check the address"
    )
