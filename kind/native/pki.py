"""The cluster's certificates, made by openssl: one authority, one for front proxies, and leaves.

Every certificate has the key usage and key identifiers that strict verifiers (Python 3.13's default) ask for.
"""

import ipaddress
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# A development cluster lives for hours; a year spares whoever forgets one.
DAYS = "365"


class PkiError(Exception):
    """openssl refused."""


@dataclass(frozen=True)
class Leaf:
    """A certificate to make: file stem, subject, alternative names (addresses or DNS names)."""

    stem: str
    common_name: str
    organization: str = ""
    names: tuple[str, ...] = ()

    def subject(self) -> str:
        """The subject in the form openssl takes."""
        organization = f"/O={self.organization}" if self.organization else ""
        return f"{organization}/CN={self.common_name}"

    def extensions(self) -> str:
        """A leaf's extensions in the form openssl takes."""
        lines = [
            "basicConstraints=critical,CA:false",
            "keyUsage=critical,digitalSignature",
            f"extendedKeyUsage={'serverAuth,' if self.names else ''}clientAuth",
            "subjectKeyIdentifier=hash",
            "authorityKeyIdentifier=keyid",
        ]
        if self.names:
            lines.append("subjectAltName=" + ",".join(_alternative(name) for name in self.names))
        return "\n".join(lines) + "\n"


def make_authority(folder: Path, stem: str) -> None:
    """Make `STEM.crt` and `STEM.key`, a self-signed authority."""
    _openssl(
        "req", "-x509", *_NEW_KEY, "-keyout", f"{folder}/{stem}.key", "-out", f"{folder}/{stem}.crt",
        "-days", DAYS, "-subj", f"/CN={stem}", "-config", "/dev/null",
        "-addext", "basicConstraints=critical,CA:true",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
        "-addext", "subjectKeyIdentifier=hash",
    )  # fmt: skip


def make_leaf(folder: Path, authority: str, leaf: Leaf) -> None:
    """Make `STEM.crt` and `STEM.key`, signed by the authority of that stem in the same folder."""
    stem = folder / leaf.stem
    request, section = stem.with_suffix(".csr"), stem.with_suffix(".ext")
    section.write_text(leaf.extensions())
    _openssl(
        "req", "-new", *_NEW_KEY, "-keyout", f"{stem}.key", "-out", str(request),
        "-subj", leaf.subject(), "-config", "/dev/null",
    )  # fmt: skip
    _openssl(
        "x509", "-req", "-in", str(request), "-CA", f"{folder}/{authority}.crt", "-CAkey", f"{folder}/{authority}.key",
        "-days", DAYS, "-extfile", str(section), "-out", f"{stem}.crt",
    )  # fmt: skip
    request.unlink()
    section.unlink()


def make_signing_key(folder: Path, stem: str) -> None:
    """Make `STEM.key` and `STEM.pub`, the pair that signs service account tokens."""
    _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", f"{folder}/{stem}.key")
    _openssl("pkey", "-in", f"{folder}/{stem}.key", "-pubout", "-out", f"{folder}/{stem}.pub")


def make_all(folder: Path, leaves: Sequence[Leaf]) -> None:
    """Make both authorities, the token key pair, the front-proxy client and the given leaves."""
    make_authority(folder, "ca")
    make_authority(folder, "front-proxy-ca")
    make_signing_key(folder, "service-account")
    make_leaf(folder, "front-proxy-ca", Leaf("front-proxy-client", "front-proxy-client"))
    for leaf in leaves:
        make_leaf(folder, "ca", leaf)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def _alternative(name: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


def _openssl(*arguments: str) -> None:
    # Keys are created readable by their owner only: openssl does so itself since 1.1, the umask makes it certain.
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False, umask=0o077)
    if done.returncode != 0:
        message = f"openssl {arguments[0]} failed: {done.stderr.strip()[-500:]}"
        raise PkiError(message)
