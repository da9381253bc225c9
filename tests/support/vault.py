"""A real Vault of this test run's own: TLS, in-memory storage, initialised and unsealed here."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import pki

from kind.native.pins import OPTIONAL_TOOLS, tool_folder
from kmip_contract.rootkey import VaultAuth, VaultConnection, VaultKubernetes

_USE = """
path "{mount}/keys/+" {{ capabilities = ["create", "read", "update", "delete"] }}
path "{mount}/keys/+/rotate" {{ capabilities = ["update"] }}
path "{mount}/encrypt/+" {{ capabilities = ["create", "update"] }}
path "{mount}/decrypt/+" {{ capabilities = ["update"] }}
"""


def binary() -> Path:
    """The program.

    Raises:
        RuntimeError: it was not built.
    """
    (tool,) = (tool for tool in OPTIONAL_TOOLS if tool.folder == "vault")
    path = tool_folder(tool) / "vault"
    if not path.exists():
        raise RuntimeError("these tests need a real Vault; build it once: python3 kind/native build --with vault")
    return path


@dataclass
class VaultServer:
    """A running server and its administrator."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes]
    root_token: str = ""
    unseal_key: str = ""

    @property
    def address(self) -> str:
        """Its origin."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        """What its certificate is trusted by."""
        return self.directory / "ca.pem"

    def api(self, method: str, path: str, body: object = None, token: str | None = None) -> dict[str, Any]:
        """An administrator's request."""
        request = urllib.request.Request(
            f"{self.address}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": token or self.root_token, "Content-Type": "application/json"},
        )
        context = ssl.create_default_context(cafile=str(self.ca_file))
        try:
            with urllib.request.urlopen(request, timeout=20, context=context) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode()}") from None
        parsed: dict[str, Any] = json.loads(text) if text else {}
        return parsed

    def seal(self) -> None:
        """Make it answer 503."""
        self.api("PUT", "sys/seal", {})

    def unseal(self) -> None:
        """Let it serve again; returns when it does."""
        self.api("PUT", "sys/unseal", {"key": self.unseal_key})
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(RuntimeError):
                self.api("GET", "sys/health")
                self.api("GET", "auth/token/lookup-self")
                return
            if time.monotonic() > deadline:
                raise RuntimeError("Vault does not unseal")
            time.sleep(0.02)

    def mount(self) -> str:
        """A new transit engine's mount, with a policy of the same name that permits its use."""
        name = f"transit-{secrets.token_hex(4)}"
        self.api("POST", f"sys/mounts/{name}", {"type": "transit"})
        self.permit(name)
        return name

    def permit(self, mount: str, *, allowed: bool = True) -> None:
        """Let the policy named after ``mount`` permit its use, or nothing."""
        policy = _USE.format(mount=mount) if allowed else f'path "{mount}/*" {{ capabilities = ["deny"] }}'
        self.api("PUT", f"sys/policies/acl/{mount}", {"policy": policy})

    def token(self, mount: str, **fields: object) -> str:
        """A token that may use ``mount``."""
        body = {"policies": [mount], "ttl": "1h", "no_parent": True, **fields}
        token: str = self.api("POST", "auth/token/create", body)["auth"]["client_token"]
        return token

    def connection(self, directory: Path, mount: str | None = None, **fields: object) -> VaultConnection:
        """A connection to a new engine (or ``mount``) by a new token in ``directory``."""
        mount = mount or self.mount()
        token_file = directory / f"{mount}.token"
        token_file.write_text(self.token(mount) + "\n")
        return VaultConnection.model_validate(
            {
                "address": self.address,
                "ca_file": self.ca_file,
                "mount": mount,
                "auth": VaultAuth(token_file=token_file),
                **fields,
            }
        )

    def kubernetes_connection(self, mount: str, role: str, jwt_file: Path) -> VaultConnection:
        """A connection to ``mount`` by Kubernetes log-in."""
        auth = VaultAuth(kubernetes=VaultKubernetes(role=role, jwt_file=jwt_file))
        return VaultConnection(address=self.address, ca_file=self.ca_file, mount=mount, auth=auth)


@contextlib.contextmanager
def running(directory: Path) -> Iterator[VaultServer]:
    """A server for the block, in ``directory``."""
    program = binary()
    authority = pki.authority("vault test CA")
    pki.server(authority).write(directory, "server")
    (directory / "ca.pem").write_text(authority.pem)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (directory / "vault.hcl").write_text(
        f"""
storage "inmem" {{}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_cert_file = "{directory}/server.crt"
  tls_key_file = "{directory}/server.key"
}}
disable_mlock = true
api_addr = "https://127.0.0.1:{port}"
"""
    )
    with (directory / "vault.log").open("wb") as log:
        process = subprocess.Popen(
            [str(program), "server", f"-config={directory}/vault.hcl"], stdout=log, stderr=log, cwd=directory
        )
    try:
        made = VaultServer(directory, port, process)
        _initialise(made)
        yield made
    finally:
        process.kill()
        process.wait(20)


def _initialise(server: VaultServer) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            answer = server.api("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
            break
        except (RuntimeError, OSError) as error:
            if server.process.poll() is not None or time.monotonic() > deadline:
                log = (server.directory / "vault.log").read_text()
                raise RuntimeError(f"Vault does not start: {error}\n{log[-2000:]}") from None
            time.sleep(0.05)
    server.root_token, server.unseal_key = answer["root_token"], answer["keys_base64"][0]
    server.unseal()
