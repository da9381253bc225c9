"""What the answers mean: by HTTP status and the code of their first reason (Key Protect, "Error messages")."""

from __future__ import annotations

from kmip_contract.rootkey import CustodyErrorKind as Kind
from kmip_custody.errors import CustodyError
from kmip_custody.providers.http import Answer

_MOST = 300
"""Characters of the service's own words in a message."""

DELETED = "KEY_DELETED_ERR"

_BY_CODE = {
    "KEY_EXPIRED_ERR": (
        Kind.CONFIGURATION,
        "the key has expired; it unwraps and does not wrap: rotate to another root key",
    ),
    "KEY_ROOT_REQ_ERR": (Kind.ROOT_KEY_UNSUITABLE, "it is a standard key; name a root key"),
    "KEY_ACTION_INVALID_STATE_ERR": (Kind.ROOT_KEY_DISABLED, "the key is suspended or deactivated; enable it"),
    "REQ_TOO_EARLY_ERR": (Kind.THROTTLED, "too soon after the last change of the key's state; try again in 30 s"),
    "KEY_ROTATION_NOT_PERMITTED": (Kind.THROTTLED, "the key was rotated less than an hour ago; try again later"),
    "PREV_KEY_DEL_ERR": (Kind.CONFIGURATION, "the key is being deleted"),
    "AUTHORIZATIONS_NOT_MET": (
        Kind.CONFIGURATION,
        "the key has a dual-authorization policy; a second person must delete it within 7 days",
    ),
    "PROTECTED_RESOURCE_ERR": (Kind.CONFIGURATION, "a cloud resource is registered with the key; remove it first"),
    "UNPROCESSABLE_CIPHERTEXT_ERR": (Kind.INTEGRITY, "the record does not belong to this object or was changed"),
    "KEY_DELETED_ERR": (Kind.ROOT_KEY_DESTROYED, "the key was deleted; it can be restored for 30 days, if not purged"),
}
_BY_STATUS = {
    401: (
        Kind.AUTHORIZATION_LOST,
        "IAM's token is not accepted; check that the instance is in the credential's account",
    ),
    403: (Kind.AUTHORIZATION_LOST, "the credential has no permission for this; check its IAM access policies"),
    410: (Kind.ROOT_KEY_DESTROYED, "the key was deleted; it can be restored for 30 days, if not purged"),
    422: (Kind.INTEGRITY, "the record does not belong to this object or was changed"),
    429: (Kind.THROTTLED, "the service asks to slow down"),
}
NOT_INITIALIZED = "kms-initialized"


def code(answer: Answer) -> str:
    """The first reason's code; empty where there is none."""
    return str(_reason(answer).get("code", ""))


def classify(answer: Answer, doing: str, *, seen: bool) -> CustodyError:
    """An answer that is no success, as an error. ``seen``: the key was there before."""
    reason, given = _reason(answer), code(answer)
    said = " ".join(str(reason.get("message") or _resource(answer).get("errorMsg") or "").split())[:_MOST]
    detail = f" [{answer.status} {given}: {said}]" if given or said else f" [{answer.status}]"
    kind, what = _meaning(answer, given, said, seen)
    return CustodyError(kind, f"{doing}: {what}{detail}")


def _meaning(answer: Answer, given: str, said: str, seen: bool) -> tuple[Kind, str]:
    for known, meaning in _BY_CODE.items():
        if given.removesuffix("_ERR") == known.removesuffix("_ERR"):
            return meaning
    if answer.status in _BY_STATUS:
        return _BY_STATUS[answer.status]
    if answer.status == 404:
        if seen:
            return Kind.ROOT_KEY_DESTROYED, "the key was there and is not there any more: it was purged"
        return Kind.ROOT_KEY_NOT_FOUND, "there is no such key in this instance; check the id, instance and key ring"
    if answer.status >= 500:
        if NOT_INITIALIZED in said or NOT_INITIALIZED in str(answer.body):
            return Kind.UNAVAILABLE, "no crypto unit is initialised; initialise the instance"
        return Kind.UNAVAILABLE, "the service does not serve now; try again"
    if answer.status in {400, 405, 409}:
        return Kind.CONFIGURATION, "the service refused"
    return Kind.UNAVAILABLE, "the answer is not one of the service's; check the endpoint"


def strange(doing: str) -> CustodyError:
    """A successful answer that is not what the API promises."""
    return CustodyError(Kind.UNAVAILABLE, f"{doing}: the answer is not what Key Protect gives; check the endpoint")


def _resource(answer: Answer) -> dict[str, object]:
    resources = answer.body.get("resources")
    first = resources[0] if isinstance(resources, list) and resources else None
    return first if isinstance(first, dict) else {}


def _reason(answer: Answer) -> dict[str, object]:
    reasons = _resource(answer).get("reasons")
    first = reasons[0] if isinstance(reasons, list) and reasons else None
    return first if isinstance(first, dict) else {}
