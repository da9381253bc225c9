"""Who may do what: the allowlist made ready for a decision per request."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from kmip_contract.allowlist import Allowlist, AllowlistEntry, EntryState, EntryType, Serving, SubjectMatch


class Refused(Exception):
    """A certificate may not act; the message says why in words for the audit."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a certificate may do, from ``not_before`` to ``not_after`` (Unix seconds)."""

    name: str
    operations: frozenset[str]
    not_before: float
    not_after: float

    def check(self, now: float) -> None:
        """Raises :class:`Refused` outside the time in which this grant holds."""
        if now >= self.not_after:
            raise Refused(f"{self.name}: the certificate has expired")
        if now < self.not_before:
            raise Refused(f"{self.name}: the certificate is not valid yet")


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    match: SubjectMatch | None
    grant: Grant


@dataclass(frozen=True, slots=True)
class AccessList:
    """One revision of the allowlist. ``problems`` names entries that could not be understood and are therefore not trusted."""

    revision: int = -1
    serving: Serving = Serving.ENABLED
    problems: tuple[str, ...] = ()
    _leaves: dict[str, Grant] = field(default_factory=dict)
    _blocked: frozenset[str] = frozenset()
    _authorities: tuple[_Authority, ...] = ()
    _anchors: tuple[tuple[bytes, float], ...] = ()

    @classmethod
    def compile(cls, allowlist: Allowlist) -> AccessList:
        """Prepare ``allowlist``. A fingerprint that is blocked anywhere is blocked; else its first entry counts."""
        leaves: dict[str, Grant] = {}
        authorities: list[_Authority] = []
        anchors: dict[bytes, float] = {}
        problems: list[str] = []
        blocked = frozenset(entry.sha256 for entry in allowlist.entries if entry.state is EntryState.BLOCKED)
        for entry in allowlist.entries:
            if entry.sha256 in blocked:
                continue
            try:
                certificate, der = _certificate(entry)
                grant = _grant(entry, certificate)
            except ValueError as error:
                problems.append(f"{entry.name}: {error}")
                continue
            except Exception as error:
                # Certificates hold anything, and the parser has errors of its own for much of it. One entry that cannot be
                # understood must not keep the rest of the list, withdrawals among it, from being enforced.
                problems.append(f"{entry.name}: the certificate cannot be understood ({type(error).__name__})")
                continue
            if entry.type is EntryType.LEAF:
                leaves.setdefault(entry.sha256, grant)
            elif entry.type is EntryType.AUTHORITY:
                authorities.append(_Authority(certificate, entry.match, grant))
            anchors.setdefault(der, grant.not_after)
        return cls(
            allowlist.revision,
            allowlist.serving,
            tuple(problems),
            leaves,
            blocked,
            tuple(authorities),
            tuple(anchors.items()),
        )

    def anchors(self, now: float) -> Iterator[bytes]:
        """The DER certificates for the trust store, without expired ones: an expired authority there hides its valid leaves."""
        return (der for der, not_after in self._anchors if now < not_after)

    def knows(self, name: str) -> bool:
        """Whether an entry of this name is trusted."""
        return any(grant.name == name for grant in self._grants())

    @property
    def fenced(self) -> bool:
        """Whether the instance refuses all keys on request."""
        return self.serving is Serving.FENCED

    def expiries(self) -> dict[str, float]:
        """When each trusted entry ends (Unix seconds)."""
        return {grant.name: grant.not_after for grant in self._grants()}

    def _grants(self) -> Iterator[Grant]:
        yield from self._leaves.values()
        yield from (authority.grant for authority in self._authorities)

    def decide(self, der: bytes) -> Grant:
        """What the certificate ``der`` may do, at any time; the caller checks the grant's own time for each request.

        The TLS layer has proven that the peer holds its key. An authority's signature over the leaf is checked here, because
        a resumed session has no chain. A leaf entry precedes an authority, and the first authority that fits counts.

        Raises:
            Refused: it may do nothing.
        """
        fingerprint = hashlib.sha256(der).hexdigest()
        if fingerprint in self._blocked:
            raise Refused("the certificate is blocked")
        grant = self._leaves.get(fingerprint)
        if grant is not None:
            return grant
        if not self._authorities:
            raise Refused("the certificate is not in the allowlist")
        return self._issued(der)

    def _issued(self, der: bytes) -> Grant:
        try:
            leaf = x509.load_der_x509_certificate(der)
            issuers = [authority for authority in self._authorities if _issued_by(leaf, authority.certificate)]
            if not issuers:
                raise Refused("the certificate is not in the allowlist, nor issued by an authority in it")
            for authority in issuers:
                if authority.match is None or _matches(leaf, authority.match):
                    return Grant(
                        authority.grant.name,
                        authority.grant.operations,
                        max(authority.grant.not_before, leaf.not_valid_before_utc.timestamp()),
                        min(authority.grant.not_after, leaf.not_valid_after_utc.timestamp()),
                    )
        except Refused:
            raise
        except Exception:
            # Whatever the parser cannot make of a certificate that an authority signed: it is not served.
            raise Refused("the certificate cannot be read") from None
        raise Refused(f"{issuers[0].grant.name}: the certificate does not match")


NOBODY = AccessList()
"""What holds before the first allowlist was read: nobody is trusted."""


def _certificate(entry: AllowlistEntry) -> tuple[x509.Certificate, bytes]:
    try:
        der = ssl.PEM_cert_to_DER_cert(entry.pem.strip())
        certificate = x509.load_der_x509_certificate(der)
    except ValueError:
        raise ValueError("not one PEM certificate") from None
    if hashlib.sha256(der).hexdigest() != entry.sha256:
        raise ValueError("sha256 is not the certificate's")
    if entry.type is EntryType.AUTHORITY and not _may_issue(certificate):
        raise ValueError("the certificate is not an authority's")
    return certificate, der


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return certificate.version is x509.Version.v1
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return constraints.ca
    return constraints.ca and usage.key_cert_sign


def _grant(entry: AllowlistEntry, certificate: x509.Certificate) -> Grant:
    return Grant(
        entry.name,
        entry.operations,
        max(_timestamp(entry.not_before), certificate.not_valid_before_utc.timestamp()),
        min(_timestamp(entry.not_after), certificate.not_valid_after_utc.timestamp()),
    )


def _timestamp(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _issued_by(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    if leaf.issuer != authority.subject:
        return False
    try:
        leaf.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _matches(leaf: x509.Certificate, match: SubjectMatch) -> bool:
    subject = (
        (match.common_name, NameOID.COMMON_NAME),
        (match.organization, NameOID.ORGANIZATION_NAME),
        (match.organizational_unit, NameOID.ORGANIZATIONAL_UNIT_NAME),
    )
    for wanted, oid in subject:
        if wanted is not None and wanted not in [item.value for item in leaf.subject.get_attributes_for_oid(oid)]:
            return False
    if match.dns_name is None and match.uri is None:
        return True
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    if match.dns_name is not None and match.dns_name not in names.get_values_for_type(x509.DNSName):
        return False
    return match.uri is None or match.uri in names.get_values_for_type(x509.UniformResourceIdentifier)
