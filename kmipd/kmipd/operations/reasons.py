"""Which result reason a client of an older version understands."""

from __future__ import annotations

from typing import Final

from kmip_contract.rootkey import CustodyErrorKind
from kmipd.keys.api import KeyUnavailable
from kmipd.objects.errors import OperationFailed
from kmipd.wire.enums import ResultReason
from kmipd.wire.versions import V1_0, V1_1, V1_2, V1_4, V2_0, V2_1, Version

_R = ResultReason

_SINCE: Final = {
    _R.EncodingOptionError: V1_1,
    _R.KeyValueNotPresent: V1_2,
    _R.AttestationRequired: V1_2,
    _R.AttestationFailed: V1_2,
    _R.Sensitive: V1_4,
    _R.NotExtractable: V1_4,
    _R.ObjectAlreadyExists: V1_4,
    # KMIP 2.0 has the number, and its test cases still expect the reason of 1.x.
    _R.WrongKeyLifecycleState: V2_1,
}

_GENERAL: Final = {
    _R.EncodingOptionError: _R.InvalidField,
    _R.KeyValueNotPresent: _R.ItemNotFound,
    _R.Sensitive: _R.PermissionDenied,
    _R.NotExtractable: _R.PermissionDenied,
    _R.ObjectAlreadyExists: _R.IllegalOperation,
    _R.WrongKeyLifecycleState: _R.PermissionDenied,
    _R.ObjectDestroyed: _R.ItemNotFound,
    _R.ObjectNotFound: _R.ItemNotFound,
    _R.AttributeNotFound: _R.ItemNotFound,
    _R.AttributeInstanceNotFound: _R.ItemNotFound,
    _R.WrappingObjectNotFound: _R.ItemNotFound,
    _R.WrappingObjectDestroyed: _R.ItemNotFound,
    _R.AttributeReadOnly: _R.PermissionDenied,
    _R.NotAuthorised: _R.PermissionDenied,
    _R.IncompatibleCryptographicUsageMask: _R.PermissionDenied,
    _R.AttributeSingleValued: _R.IllegalOperation,
    _R.NonUniqueNameAttribute: _R.IllegalOperation,
    _R.InvalidObjectType: _R.InvalidField,
    _R.UnsupportedCryptographicParameters: _R.InvalidField,
    _R.KeyWrapTypeNotSupported: _R.FeatureNotSupported,
    _R.UnsupportedProtocolVersion: _R.InvalidMessage,
    _R.ServerLimitExceeded: _R.GeneralFailure,
}


def reason_for(version: Version, reason: ResultReason) -> ResultReason:
    """``reason`` where ``version`` has it, else the general one that stands for it there."""
    newest = reason <= _R.ObjectAlreadyExists or reason == _R.GeneralFailure
    if version >= _SINCE.get(reason, V1_0 if newest else V2_0):
        return reason
    return _GENERAL.get(reason, _R.GeneralFailure)


def key_unavailable(error: KeyUnavailable) -> OperationFailed:
    """What a client is told when a key cannot be wrapped or unwrapped: taken away and out of reach are never confused."""
    if error.kind.revoked:
        told = f"the root key that protects this key was revoked or withheld from this server ({error.kind.value})"
        return OperationFailed(_R.PermissionDenied, told)
    if error.kind is CustodyErrorKind.INTEGRITY:
        return OperationFailed(_R.CryptographicFailure, "the stored key does not authenticate against the root key")
    return OperationFailed(_R.GeneralFailure, "the key manager is unreachable, retry")
