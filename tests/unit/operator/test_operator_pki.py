"""The certificates the operator makes, judged by OpenSSL, and what it says of those it is given."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from kmip_operator import pki

NOW = datetime.now(UTC).replace(microsecond=0)
CA = pki.make_authority("KMIP CA of vsphere/vc", NOW)
NAMES = ("kms.corp.example", "vc.vsphere.svc", "192.0.2.7", "2001:db8::7")


def load(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def test_the_authority_issues_leaves_and_no_authorities() -> None:
    certificate = load(CA.certificate)
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert timedelta(days=3650) < certificate.not_valid_after_utc - NOW < timedelta(days=3660)


def test_a_server_leaf_has_every_name_and_address_and_points_to_its_authority() -> None:
    certificate = load(pki.make_server_leaf(CA, NAMES, NOW).certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == list(NAMES[:2])
    assert [str(item) for item in names.get_values_for_type(x509.IPAddress)] == list(NAMES[2:])
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    issuer = load(CA.certificate).extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    pointer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert pointer.key_identifier == issuer.digest
    assert timedelta(days=1825) < certificate.not_valid_after_utc - NOW < timedelta(days=1830)


def test_openssl_accepts_server_and_client_for_their_purposes_only(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(CA.certificate)
    (tmp_path / "server.crt").write_bytes(pki.make_server_leaf(CA, NAMES, NOW).certificate)
    (tmp_path / "client.crt").write_bytes(pki.make_client_leaf(CA, "operator", NOW).certificate)

    def verify(name: str, purpose: str, *more: str) -> bool:
        command = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.crt", "-purpose", purpose, *more, f"{name}.crt"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0

    assert verify("server", "sslserver", "-verify_hostname", "kms.corp.example")
    assert verify("server", "sslserver", "-verify_ip", "192.0.2.7")
    assert not verify("server", "sslserver", "-verify_hostname", "evil.example")
    assert verify("client", "sslclient")
    assert not verify("client", "sslserver")
    assert not verify("server", "sslclient")


def test_a_leaf_never_outlives_its_authority() -> None:
    late = NOW + timedelta(days=3000)
    leaf = load(pki.make_server_leaf(CA, NAMES, late).certificate)
    assert leaf.not_valid_after_utc <= load(CA.certificate).not_valid_after_utc


def test_long_names_fit_the_common_name() -> None:
    host = f"status.{'i' * 60}.{'n' * 60}.kmip.internal"
    leaf = load(pki.make_server_leaf(CA, [host], NOW).certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [host]


def test_a_chain_is_read_leaf_first_and_rubbish_is_no_chain() -> None:
    leaf = pki.make_server_leaf(CA, NAMES, NOW)
    chain = pki.read_chain((leaf.certificate + CA.certificate).decode())
    assert [item.authority for item in chain] == [False, True]
    assert chain[0].names == NAMES
    assert pki.read_chain("rubbish") == ()


def test_a_fingerprint_is_written_as_vcenter_shows_it() -> None:
    facts = pki.read_one(CA.certificate.decode(), "here")
    assert facts.fingerprint.count(":") == 31
    assert facts.fingerprint == facts.fingerprint.upper()
    assert facts.fingerprint.replace(":", "").lower() == facts.sha256


def test_a_private_key_is_refused_without_being_repeated() -> None:
    with pytest.raises(pki.CertificateProblem) as caught:
        pki.read_one((CA.certificate + CA.key).decode(), "spec.leaf.pem")
    assert caught.value.reason == "PrivateKeyGiven"
    assert CA.key.decode().splitlines()[1] not in caught.value.message
