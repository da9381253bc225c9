"""The four resources of an evaluation set-up as manifests, with a fresh certificate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Manifest = dict[str, Any]

API = "kmip.dev/v1alpha1"


def certificate(common_name: str) -> str:
    """A self-signed certificate without extensions, as vCenter makes them (PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    moment = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(hours=1))
        .not_valid_after(moment + timedelta(days=365))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def seed_secret() -> Manifest:
    """The seed of a Software key manager."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "seed"},
        "stringData": {"seed": "not a secret, only long enough: 0123456789abcdef"},
    }


def key_manager() -> Manifest:
    """A Software KeyManager ``soft``."""
    spec = {"type": "Software", "credentials": {"use": {"secretRef": {"name": "seed"}}}}
    return {"apiVersion": API, "kind": "KeyManager", "metadata": {"name": "soft"}, "spec": spec}


def root_key() -> Manifest:
    """A RootKey ``crk``."""
    source = {"type": "Create", "create": {"algorithm": "AES", "length": 256}}
    spec = {"keyManagerRef": {"name": "soft"}, "source": source}
    return {"apiVersion": API, "kind": "RootKey", "metadata": {"name": "crk"}, "spec": spec}


def instance(name: str = "vc") -> Manifest:
    """A KmipInstance on SQLite."""
    spec = {"rootKeyRef": {"name": "crk"}}
    return {"apiVersion": API, "kind": "KmipInstance", "metadata": {"name": name}, "spec": spec}


def client_certificate(name: str, pem: str, of: str = "vc") -> Manifest:
    """A ClientCertificate with an inline leaf."""
    spec = {"instanceRef": {"name": of}, "type": "Leaf", "leaf": {"pem": pem}, "permissions": {"profile": "VSphere"}}
    return {"apiVersion": API, "kind": "ClientCertificate", "metadata": {"name": name}, "spec": spec}


def everything() -> list[Manifest]:
    """The Secret and the four resources, in any order."""
    return [seed_secret(), key_manager(), root_key(), instance(), client_certificate("vc01", certificate("vc01"))]
