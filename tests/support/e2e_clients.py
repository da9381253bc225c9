"""Clients of the end-to-end tests: identities, and what every pod says to them."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.pki import Identity

from demo.certificates import ClientIdentity
from demo.clients import Endpoint
from demo.steps import wait_for
from demo.vcenter import Connection, UnexpectedAnswerError

REFUSALS = (OSError, ssl.SSLError, UnexpectedAnswerError)
"""How a refusal looks to a client: the connection ends, or the answer is no success."""


def written(identity: Identity, folder: Path, name: str) -> ClientIdentity:
    """An identity as files."""
    return ClientIdentity(*identity.write(folder, name))


def accepted_by(endpoints: Sequence[Endpoint], identity: ClientIdentity) -> list[str]:
    """The endpoints (by region) that serve a new connection of ``identity`` now."""
    return [endpoint.region for endpoint in endpoints if endpoint.accepts(identity)]


def until_all_accept(endpoints: Sequence[Endpoint], identity: ClientIdentity, *, timeout: float = 30) -> None:
    """Wait until every endpoint serves new connections of ``identity``."""
    wait_for(
        f"{identity.certificate.stem} accepted by all of {[each.region for each in endpoints]}",
        lambda: True if len(accepted_by(endpoints, identity)) == len(endpoints) else None,
        timeout=timeout,
    )


def until_none_accepts(endpoints: Sequence[Endpoint], identity: ClientIdentity, *, timeout: float = 30) -> None:
    """Wait until no endpoint serves new connections of ``identity``."""
    wait_for(
        f"{identity.certificate.stem} refused by all of {[each.region for each in endpoints]}",
        lambda: None if accepted_by(endpoints, identity) else True,
        timeout=timeout,
    )


@contextlib.contextmanager
def sessions(endpoints: Sequence[Endpoint], identity: ClientIdentity) -> Iterator[list[Connection]]:
    """One open connection to each endpoint."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(endpoint.connect(identity)) for endpoint in endpoints]


def until_dropped(connection: Connection, *, timeout: float = 30) -> None:
    """Wait until the server ends a connection that is idle."""
    connection.sock.settimeout(timeout)
    try:
        rest = connection.sock.recv(1)
    except TimeoutError:
        raise AssertionError(f"the connection was not dropped within {timeout:g} s") from None
    except OSError:
        return
    assert rest == b"", "the server sent something unasked"
