"""The KMIP port's TLS: which protocols and suites it offers, and whose certificates it lets through the handshake.

A handshake proves only that the peer holds the private key of a certificate in the trust store (or of one that an authority
there issued). What that peer may do is decided for each request by :mod:`kmipd.server.access`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kmip_contract.kmipd import TlsProfile

_MODERN = "ECDHE+AESGCM:ECDHE+CHACHA20"

# vCenter 7.0.3 was seen to negotiate AES128-SHA256 with the KMS it is certified with; both need an RSA server certificate.
SUITES = {TlsProfile.MODERN: _MODERN, TlsProfile.VSPHERE7: f"{_MODERN}:AES128-SHA256:AES256-SHA256"}

# X509_CERT_AUX with one trusted purpose, TLS client authentication (1.3.6.1.5.5.7.3.2), in DER. With it OpenSSL does not ask a
# pinned certificate for key usages it need not have: vSphere's lack EKU, or carry serverAuth alone.
_TRUSTED_FOR_CLIENT_AUTH = bytes.fromhex("300c300a06082b06010505070302")


class TlsError(ValueError):
    """A certificate, key or trust store that cannot be used: says which file and what was wrong."""


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """The server's PEM chain and key as read at one moment, and what /status tells of its leaf."""

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)
    sha256: str
    not_after: datetime

    @classmethod
    def read(cls, certificate_file: Path, key_file: Path) -> ServerIdentity:
        """Read two files.

        Raises:
            TlsError: one cannot be read, or the first holds no certificate.
        """
        try:
            chain, key = certificate_file.read_bytes(), key_file.read_bytes()
        except OSError as error:
            raise TlsError(f"{error.filename}: {error.strerror}") from None
        try:
            leaf = x509.load_pem_x509_certificates(chain)[0]
        except ValueError:
            raise TlsError(f"{certificate_file}: not a PEM certificate") from None
        return cls(chain, key, hashlib.sha256(leaf.public_bytes(Encoding.DER)).hexdigest(), leaf.not_valid_after_utc)


def server_context(identity: ServerIdentity, profile: TlsProfile, trusted: Iterable[bytes]) -> ssl.SSLContext:
    """A context for new connections that shows ``identity`` and accepts the DER certificates ``trusted`` and what they issued.

    TLS 1.3 tickets are off: each would carry the client's certificate and cost a third of a handshake, and KMIP clients
    do not come back with them. TLS 1.2 resumes from this context's memory, so a new context ends all resumption.

    Raises:
        TlsError: the certificate, the key or an anchor cannot be used, or the key is not the certificate's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(SUITES[profile])
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    context.verify_mode = ssl.CERT_REQUIRED
    # A pinned leaf is an anchor, whoever issued it. STRICT would refuse vSphere's certificates, which lack key identifiers.
    context.verify_flags = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        with _in_memory(identity.chain) as chain, _in_memory(identity.key) as key:
            context.load_cert_chain(chain, key, password=_refuse_encrypted_key)
    except (OSError, ValueError) as error:
        raise TlsError(f"the server's certificate and key: {_explain(error)}") from None
    _trust(context, trusted)
    return context


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path from which ``content`` can be read by functions that only take paths; nothing reaches a disk."""
    descriptor = os.memfd_create("kmip-tls")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _trust(context: ssl.SSLContext, trusted: Iterable[bytes]) -> None:
    bundle = "".join(_trusted_pem(der) for der in trusted)
    if not bundle:
        return
    try:
        # Only a file may hold "trusted certificates" (those with the suffix above).
        with _in_memory(bundle.encode("ascii")) as path:
            context.load_verify_locations(cafile=path)
    except OSError as error:
        raise TlsError(f"trust store: {_explain(error)}") from None


def _trusted_pem(der: bytes) -> str:
    text = base64.encodebytes(der + _TRUSTED_FOR_CLIENT_AUTH).decode("ascii")
    return f"-----BEGIN TRUSTED CERTIFICATE-----\n{text}-----END TRUSTED CERTIFICATE-----\n"


def _refuse_encrypted_key() -> str:
    raise ValueError("the key is encrypted: no one is here to give its passphrase")


def _explain(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "not a certificate or key"
    if isinstance(error, OSError):
        return error.strerror or "cannot be read"
    return str(error)


def failure_reason(error: Exception) -> str:
    """A short, bounded name of why a handshake failed, for a metric's label and a log line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "certificate_not_trusted"
    if isinstance(error, ssl.SSLError):
        return _REASONS.get(error.reason or "", "protocol_error")
    return "connection_lost"


_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no_client_certificate",
    "NO_SHARED_CIPHER": "no_shared_cipher",
    "UNSUPPORTED_PROTOCOL": "unsupported_protocol",
    "VERSION_TOO_LOW": "unsupported_protocol",
    "HTTP_REQUEST": "not_tls",
    "HTTPS_PROXY_REQUEST": "not_tls",
    "WRONG_VERSION_NUMBER": "not_tls",
    "RECORD_LAYER_FAILURE": "not_tls",
    "TLSV1_ALERT_UNKNOWN_CA": "refused_by_client",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "refused_by_client",
    "SSLV3_ALERT_BAD_CERTIFICATE": "refused_by_client",
    "UNEXPECTED_EOF_WHILE_READING": "connection_lost",
}
