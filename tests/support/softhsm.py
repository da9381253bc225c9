"""A SoftHSM2 token of one test's own, in a directory that vanishes with it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kmip_contract.rootkey import Pkcs11Connection

_ADMINISTER = """
import sys
from pkcs11 import Attribute, KeyType, MechanismFlag, ObjectClass, lib
argv = sys.argv
session = lib(argv[1]).get_token(token_label=argv[2]).open(rw=True, user_pin=sys.stdin.read())
keys = list(session.get_objects({
    Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES, Attribute.ID: bytes.fromhex(argv[3])
})) if argv[3] else []
"""

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")


def ensure_installed() -> None:
    """Install softhsm2 from the distribution if it is not there.

    Raises:
        RuntimeError: it is not there and cannot be installed.
    """
    if MODULE.exists() and shutil.which("softhsm2-util"):
        return
    done = subprocess.run(
        ["apt-get", "install", "-y", "--no-install-recommends", "softhsm2"],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not MODULE.exists():
        raise RuntimeError(f"softhsm2 is needed and could not be installed: {done.stderr[-500:]}")


@dataclass(frozen=True)
class SoftHsm:
    """A token: its module, its label, its PINs, and the environment that makes the module see it."""

    directory: Path
    label: str
    pin: str
    so_pin: str
    module: Path = MODULE

    @property
    def pin_file(self) -> Path:
        """The user PIN, with a final newline as people write it."""
        return self.directory / "pin"

    @property
    def tokens(self) -> Path:
        """Where SoftHSM keeps its tokens."""
        return self.directory / "tokens"

    @property
    def conf(self) -> Path:
        """SoftHSM's configuration file."""
        return self.directory / "softhsm2.conf"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs so that the module finds the token."""
        return {"SOFTHSM2_CONF": str(self.conf)}

    def administer(self, statement: str, handle: str = "", *arguments: str) -> str:
        """Run ``statement`` as the token's administrator would, in another process; what it prints.

        It sees ``session`` (read-write, logged in), ``keys`` (AES keys with CKA_ID ``handle``), ``argv`` and pkcs11's names.
        """
        done = subprocess.run(
            [sys.executable, "-c", _ADMINISTER + statement, str(self.module), self.label, handle, *arguments],
            env={**os.environ, **self.environment},
            input=self.pin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def destroy(self, handle: str) -> None:
        """Destroy the AES keys with CKA_ID ``handle``."""
        self.administer("for key in keys: key.destroy()", handle)

    def permit(self, handle: str, attribute: str, *, allowed: bool) -> None:
        """Set a boolean attribute such as DECRYPT of the AES keys with CKA_ID ``handle``."""
        self.administer(f"for key in keys: key[Attribute.{attribute}] = {allowed}", handle)

    def duplicate(self, handle: str, label: str) -> None:
        """Make one more AES key with CKA_ID ``handle``."""
        self.administer(
            "session.generate_key(KeyType.AES, 256, id=bytes.fromhex(argv[3]), label=argv[4], store=True,"
            " template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False})",
            handle,
            label,
        )

    def labels(self) -> list[str]:
        """CKA_LABEL of every secret key, sorted."""
        found = self.administer(
            "print('\\n'.join(k.label for k in session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})))"
        )
        return sorted(found.splitlines())

    def connection(self, mechanism: str = "Auto", module: Path | None = None) -> Pkcs11Connection:
        """The connection to the token."""
        return Pkcs11Connection.model_validate(
            {
                "module": module or self.module,
                "token_label": self.label,
                "pin_file": self.pin_file,
                "mechanism": mechanism,
            }
        )


def make_token(directory: Path, label: str = "kmip") -> SoftHsm:
    """Initialise a token with random PINs below ``directory``."""
    ensure_installed()
    hsm = SoftHsm(directory, label, pin=secrets.token_hex(8), so_pin=secrets.token_hex(8))
    hsm.tokens.mkdir(parents=True)
    hsm.conf.write_text(
        f"directories.tokendir = {hsm.tokens}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"
    )
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", hsm.pin, "--so-pin", hsm.so_pin],
        env={**os.environ, **hsm.environment},
        check=True,
        capture_output=True,
    )
    hsm.pin_file.write_text(hsm.pin + "\n")
    hsm.pin_file.chmod(0o600)
    return hsm


@dataclass(frozen=True)
class Shim:
    """The module ``p11shim.c`` in front of a token's module: hangs, fails and counts log-ins when told."""

    module: Path
    directory: Path
    hsm: SoftHsm

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to load it."""
        return {
            **self.hsm.environment,
            "P11SHIM_TARGET": str(self.hsm.module),
            "P11SHIM_DIR": str(self.directory),
        }

    def connection(self, mechanism: str = "Auto") -> Pkcs11Connection:
        """The connection to the token through the shim."""
        return self.hsm.connection(mechanism, self.module)

    def logins(self) -> list[str]:
        """Return value (hex) of each log-in that reached the token."""
        path = self.directory / "logins"
        return path.read_text().split() if path.exists() else []

    def hang(self) -> None:
        """From now on, encryption and decryption do not return."""
        (self.directory / "hang").touch()

    def crash(self) -> None:
        """From now on, they end the process with SIGSEGV."""
        (self.directory / "crash").touch()

    def answer(self) -> None:
        """Let them return, and succeed."""
        for name in ("hang", "fail", "crash"):
            (self.directory / name).unlink(missing_ok=True)

    def fail(self, value: int) -> None:
        """From now on, encryption and decryption return ``value``."""
        (self.directory / "fail").write_text(f"{value:x}")


def make_shim(hsm: SoftHsm) -> Shim:
    """Compile the shim for ``hsm`` into its directory."""
    directory = hsm.directory / "shim"
    directory.mkdir()
    module = directory / "p11shim.so"
    source = Path(__file__).with_name("p11shim.c")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(module), str(source), "-ldl"], check=True
    )
    return Shim(module, directory, hsm)
