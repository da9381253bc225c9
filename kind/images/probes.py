"""What has to work, and what must not be there, in each image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Seconds after which a probe counts as hung; the slowest, initdb, takes two to three.
TIMEOUT = 60.0


@dataclass(frozen=True)
class Probe:
    """One program run in the image; it has to exit with 0 and print the expected words."""

    name: str
    argv: tuple[str, ...]
    expect: str = ""
    env: tuple[tuple[str, str], ...] = ()


def _python(name: str, code: str, expect: str = "", env: tuple[tuple[str, str], ...] = ()) -> Probe:
    return Probe(name, ("/usr/bin/python3", "-I", "-c", code), expect, env)


_COMMON = (
    _python(
        "interpreter",
        """
import os, sqlite3, ssl, sys, zoneinfo
assert sys.version_info[:2] == (3, 13), sys.version
assert ssl.OPENSSL_VERSION.startswith("OpenSSL 3.5."), ssl.OPENSSL_VERSION
assert ssl.create_default_context().cert_store_stats()["x509_ca"] > 100
zoneinfo.ZoneInfo("Europe/Berlin")
sqlite3.connect("/mnt/probe.db").execute("create table t (x)")
try:
    open("/probe", "w")
except OSError:
    print(sys.version.split()[0], ssl.OPENSSL_VERSION, "SQLite", sqlite3.sqlite_version)
""",
        "OpenSSL 3.5.",
    ),
)

# Every module of the packages given as arguments imports; and the generated Kubernetes classes that the code names are there
# although most are left out.
_IMPORTS = """
import ast, importlib, importlib.metadata, importlib.util, pathlib, pkgutil, sys
count = 0
for package in sys.argv[1:]:
    top = importlib.import_module(package)
    for found in pkgutil.walk_packages(top.__path__, package + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
        count += 1
    if importlib.util.find_spec("kubernetes") is not None:
        client = importlib.import_module("kubernetes.aio.client")
        for path in pathlib.Path(top.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
                if name in client.__all__:
                    getattr(client, name)
print(importlib.metadata.version("kmip-operator"), count, "modules")
"""


def _imports(*packages: str) -> Probe:
    return Probe(f"imports {' '.join(packages)}", ("/usr/bin/python3", "-I", "-c", _IMPORTS, *packages), "modules")


def _present(*modules: str) -> Probe:
    return _python(f"has {', '.join(modules)}", f"import {', '.join(modules)}")


def _absent(*modules: str) -> Probe:
    code = f"""
import importlib.util
print([name for name in {modules!r} if importlib.util.find_spec(name)])
"""
    return _python(f"has no {', '.join(modules)}", code, "[]")


def _help(program: str) -> Probe:
    return Probe(f"{program} --help", (f"/usr/local/bin/{program}", "--help"), "Usage")


_ENVELOPE = _python(
    "cryptography",
    """
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
key = AESGCM(AESGCM.generate_key(256))
assert key.decrypt(bytes(12), key.encrypt(bytes(12), b"x", b"aad"), b"aad") == b"x"
""",
)

_CUSTODY = (
    *_COMMON,
    _present(
        "pkcs11", "pkcs11.util.rsa", "cbor2", "cryptography.x509", "pydantic", "yaml", "structlog", "prometheus_client"
    ),
    _absent("kopf", "kubernetes", "aiohttp", "asyncpg", "kmipd", "kmip_operator"),
    _ENVELOPE,
    _imports("kmip_contract", "kmip_custody"),
    _help("kmip-custody"),
)

_SOFTHSM_ENV = (("SOFTHSM2_CONF", "/mnt/softhsm2.conf"),)
_SOFTHSM = _python(
    "SoftHSM2 token, directly and through p11-kit",
    '''
import os, subprocess
open("/mnt/softhsm2.conf", "w").write("directories.tokendir = /mnt/tokens\\n")
os.mkdir("/mnt/tokens")
pins = ["--so-pin", "12345678", "--pin", "1234"]
subprocess.run(["/usr/bin/softhsm2-util", "--init-token", "--free", "--label", "probe", *pins], check=True)
import pkcs11
library = pkcs11.lib("/usr/lib/softhsm/libsofthsm2.so")
with library.get_token(token_label="probe").open(rw=True, user_pin="1234") as session:
    key = session.generate_key(pkcs11.KeyType.AES, 256)
    iv = session.generate_random(128)
    assert key.decrypt(key.encrypt(b"probe", mechanism_param=iv), mechanism_param=iv) == b"probe"
proxy = """
import glob, pkcs11
library = pkcs11.lib(glob.glob("/usr/lib/*/p11-kit-proxy.so")[0])
print([slot.get_token().label for slot in library.get_slots(token_present=True)])
"""
subprocess.run(["/usr/bin/python3", "-I", "-c", proxy], check=True)
''',
    "'probe'",
    _SOFTHSM_ENV,
)

_POSTGRESQL = """
set -e
initdb -D /mnt/data -U postgres --auth=trust --locale-provider=builtin --locale=C.UTF-8 --encoding=UTF8 >/mnt/initdb.log
options="-c listen_addresses='' -c unix_socket_directories=/tmp -c jit=off"
pg_ctl -D /mnt/data -w -l /mnt/log -o "$options" start >/mnt/start.log || { cat /mnt/log; exit 1; }
psql -h /tmp -U postgres -tAc "create table t (x text); insert into t values (gen_random_uuid()); select version()"
psql -h /tmp -U postgres -tAc "create extension pgcrypto"
pg_ctl -D /mnt/data -w -m fast stop >/mnt/stop.log
"""

PROBES: Mapping[str, tuple[Probe, ...]] = {
    "operator": (
        *_COMMON,
        _present(
            "kopf",
            "kubernetes.aio.dynamic",
            "kubernetes.aio.config",
            "aiohttp",
            "pydantic",
            "cryptography.x509",
            "structlog",
        ),
        _absent("pkcs11", "asyncpg", "uvloop", "kmipd", "kmip_custody"),
        _imports("kmip_contract", "kmip_operator"),
        _help("kmip-operator"),
    ),
    "kmipd": (
        *_COMMON,
        _present(
            "uvloop", "asyncpg", "cryptography.x509", "pydantic", "yaml", "structlog", "prometheus_client", "click"
        ),
        _absent("kopf", "kubernetes", "pkcs11", "kmip_operator", "kmip_custody"),
        _ENVELOPE,
        _imports("kmip_contract", "kmipd"),
        _help("kmipd"),
    ),
    "custody": _CUSTODY,
    "custody-softhsm": (
        *_CUSTODY,
        Probe("softhsm2-util --version", ("/usr/bin/softhsm2-util", "--version"), "2.6"),
        _SOFTHSM,
    ),
    "postgresql": (Probe("initdb, start, query, stop", ("/usr/bin/sh", "-c", _POSTGRESQL), "PostgreSQL 17."),),
    "tools": (
        *_COMMON,
        Probe("shell", ("/usr/bin/sh", "-c", "wget --help 2>&1 | head -1; openssl version"), "OpenSSL 3.5."),
    ),
}

# PostgreSQL looks its own uid up in /etc/passwd, so it runs as the image's user; every other image runs as any.
FIXED_UID: Mapping[str, int] = {"postgresql": 65532}
# Images in which no shell may be found.
SHELL_LESS = ("operator", "kmipd", "custody", "custody-softhsm")
# Largest sum of the layers, in bytes: what nodes have to hold and pull.
SIZE_LIMIT: Mapping[str, int] = {
    "operator": 120_000_000,
    "kmipd": 110_000_000,
    "custody": 110_000_000,
    "postgresql": 120_000_000,
}
