"""The ClientCertificate resource."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from kmip_contract.allowlist import EntryState, EntryType
from kmip_contract.permissions import OPERATIONS, PermissionProfile
from kmip_operator.resource import SET_LIST, ApiModel, Reference, SecretKeyReference, Status, rule, rules, union

Pem = Annotated[str, Field(min_length=1, max_length=16384)]


def _pem_rule(expression: str, message: str) -> dict[str, str]:
    """A rule on ``pem``, put on the object around it.

    The API server prints the text that breaks a rule of its own, and that may be a private key.
    """
    return rule(f"!has(self.pem) || {expression}", message, fieldPath=".pem")


_PEM = (
    _pem_rule("!self.pem.contains('PRIVATE KEY')", "must not hold a private key: give the certificate alone"),
    _pem_rule(
        "self.pem.trim().startsWith('-----BEGIN CERTIFICATE-----')", "must begin with -----BEGIN CERTIFICATE-----"
    ),
    _pem_rule(
        "self.pem.indexOf('-----BEGIN') == self.pem.lastIndexOf('-----BEGIN')", "must hold exactly one certificate"
    ),
    _pem_rule("self.pem.contains('-----END CERTIFICATE-----')", "must end with -----END CERTIFICATE-----"),
)

_ONE_SOURCE = rule("has(self.pem) != has(self.secretRef)", "give either pem or secretRef")
_Text = Annotated[str, Field(min_length=1, max_length=256)]


class Leaf(ApiModel):
    """Exactly one client certificate is trusted."""

    model_config = ConfigDict(json_schema_extra=rules(_ONE_SOURCE, *_PEM))

    pem: Pem | None = None
    """The certificate (PEM). It needs no key usage and no names, and may be self-signed: it is known by its SHA-256."""
    secret_ref: SecretKeyReference | None = None
    """A Secret that holds the certificate. Default key: tls.crt. No other key of it is read."""


class Match(ApiModel):
    """What a certificate must say; all that is given, compared exactly."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.commonName) || has(self.organization) || has(self.organizationalUnit) || "
                "has(self.dnsName) || has(self.uri)",
                "match must say at least one of commonName, organization, organizationalUnit, dnsName, uri",
            )
        )
    )

    common_name: _Text | None = None
    """The subject's common name (CN)."""
    organization: _Text | None = None
    """The subject's organization (O)."""
    organizational_unit: _Text | None = None
    """The subject's organizational unit (OU)."""
    dns_name: _Text | None = None
    """A DNS name among the subject alternative names."""
    uri: _Text | None = None
    """A URI among the subject alternative names."""


class Authority(ApiModel):
    """Certificates of an authority are trusted when they match."""

    model_config = ConfigDict(json_schema_extra=rules(_ONE_SOURCE, *_PEM))

    pem: Pem | None = None
    """The authority's certificate (PEM)."""
    secret_ref: SecretKeyReference | None = None
    """A Secret that holds the authority's certificate. Default key: tls.crt. No other key of it is read."""
    match: Match
    """What a certificate of the authority must say."""


class Permissions(ApiModel):
    """What the client may do."""

    model_config = ConfigDict(
        json_schema_extra=rules(rule("has(self.profile) != has(self.operations)", "give either profile or operations"))
    )

    profile: PermissionProfile | None = None
    """VSphere: create, read and activate keys, and no more. ReadOnly: read keys. Full: every operation."""
    operations: (
        Annotated[
            list[Annotated[str, Field(json_schema_extra={"enum": sorted(OPERATIONS)})]],
            Field(min_length=1, max_length=64, json_schema_extra=SET_LIST),
        ]
        | None
    ) = None
    """KMIP operations, one by one. DiscoverVersions and Query are always permitted."""


class ClientCertificateSpec(ApiModel):
    """What the user says."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *union("type", Leaf="leaf", Authority="authority"),
            rule(
                "self.instanceRef.name == oldSelf.instanceRef.name",
                "instanceRef cannot be changed: make another ClientCertificate",
            ),
        )
    )

    instance_ref: Reference
    """The KmipInstance that serves the client."""
    type: EntryType
    """Leaf: exactly one certificate. Authority: the certificates of an authority that match."""
    leaf: Leaf | None = None
    """The certificate. Only with type Leaf."""
    authority: Authority | None = None
    """The authority. Only with type Authority."""
    permissions: Permissions | None = None
    """What the client may do. Default: profile VSphere."""
    state: EntryState | None = None
    """Active (default), or Blocked: every request is refused within seconds."""


class ClientCertificateStatus(Status):
    """What the operator answers."""

    subject: str | None = None
    """The certificate's subject."""
    issuer: str | None = None
    """The certificate's issuer."""
    serial_number: str | None = None
    """The certificate's serial number, in hexadecimal."""
    sha256: Annotated[str, Field(pattern=r"^([0-9A-F]{2}:){31}[0-9A-F]{2}$")] | None = None
    """SHA-256 fingerprint of the certificate, as browsers and vCenter show it."""
    not_before: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    """Since when it is valid."""
    not_after: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    """Until when it is valid."""
    last_seen: Annotated[str, Field(json_schema_extra={"format": "date"})] | None = None
    """The last day (UTC) on which the client made a request."""
    revision: Annotated[int, Field(ge=0)] | None = None
    """The revision of the instance's list that holds this certificate as the spec says."""
    applied_pods: str | None = None
    """Pods that enforce the revision, of those that serve."""


class ClientCertificate(ApiModel):
    """Who a KmipInstance serves, and what they may do."""

    spec: ClientCertificateSpec
    """Which certificate, and its permissions."""
    status: ClientCertificateStatus | None = None
    """Whether the certificate works on every pod. Written by the operator."""
