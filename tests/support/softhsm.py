"""A SoftHSM2 token of one test's own, in a directory that vanishes with it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kmip_contract.rootkey import Pkcs11Connection

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
