"""A KMIP client that knows nothing: frames in, frames out, over TLS as real clients speak it."""

from __future__ import annotations

import socket
import ssl
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

TIMEOUT = 20.0
"""Seconds until a test that waits for the server is told so; a loaded machine answers within one."""


@dataclass(frozen=True)
class ClientFiles:
    """The PEM files of a client; ``certificate`` ``None``: a client without one."""

    certificate: Path | None = None
    key: Path | None = None


def context(
    files: ClientFiles = ClientFiles(),
    *,
    version: ssl.TLSVersion | None = None,
    ciphers: str | None = None,
    ca: Path | None = None,
) -> ssl.SSLContext:
    """A client context that, like vCenter, takes any server certificate (or checks it against ``ca``)."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    else:
        made.load_verify_locations(ca)
    if files.certificate is not None:
        made.load_cert_chain(files.certificate, files.key)
    if version is not None:
        made.minimum_version = made.maximum_version = version
    if ciphers is not None:
        made.set_ciphers(ciphers)
    return made


class KmipSocket(AbstractContextManager["KmipSocket"]):
    """One connection."""

    def __init__(
        self,
        address: tuple[str, int],
        tls: ssl.SSLContext,
        *,
        session: ssl.SSLSession | None = None,
        source: str = "",
    ) -> None:
        raw = socket.create_connection(address, TIMEOUT, source_address=(source, 0) if source else None)
        try:
            self.tls = tls.wrap_socket(raw, server_hostname="localhost", session=session)
        except BaseException:
            raw.close()
            raise

    def send(self, data: bytes) -> None:
        self.tls.sendall(data)

    def receive(self) -> bytes:
        """One whole message. Raises ``ConnectionError`` when the server ends the connection instead."""
        head = self._exactly(8)
        return head + self._exactly(int.from_bytes(head[4:8], "big"))

    def ask(self, message: bytes) -> bytes:
        self.send(message)
        return self.receive()

    def ended(self) -> bool:
        """Whether the server ends the connection without a further byte."""
        try:
            return self.tls.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        self.tls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self.tls.close()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.tls.recv(size - len(data))
            if not piece:
                raise ConnectionError(f"the server ended the connection after {len(data)} of {size} bytes")
            data += piece
        return data
