"""What the server trusts now: the allowlist and the server's own certificate, followed as their files change."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from kmip_contract.allowlist import Allowlist
from kmip_contract.kmipd import ServerTls
from kmip_contract.model import ContractError
from kmipd.server.access import NOBODY, AccessList
from kmipd.server.tls import ServerIdentity, TlsError, server_context
from kmipd.server.watch import FileWatch

_log = structlog.get_logger(__name__)

# OpenSSL keeps up to 20480 TLS 1.2 sessions of some KB each in a context, and Python cannot set fewer.
_MAX_CACHED_SESSIONS = 1024

# Seconds. A new context forgets session secrets and authorities that have expired meanwhile.
_MAX_CONTEXT_AGE = 3600.0


class Trust:
    """Holds the current :class:`AccessList` and ``SSLContext``; :meth:`poll` follows the files.

    ``on_change`` is called after the allowlist changed. What cannot be used is reported (``allowlist_error``,
    ``tls_error``) and changes nothing: the last good allowlist and certificate stay.
    """

    def __init__(
        self,
        tls: ServerTls,
        allowlist_file: Path,
        on_change: Callable[[AccessList], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read both files.

        Raises:
            TlsError: the server's certificate or key cannot be used. (A bad allowlist only leaves nobody trusted.)
        """
        self._tls = tls
        self._allowlist_file = allowlist_file
        self._on_change = on_change
        self._clock = clock
        self._allowlist_watch = FileWatch([allowlist_file])
        self._tls_watch = FileWatch([tls.certificate_file, tls.key_file])
        self.access = NOBODY
        self.allowlist_error: str | None = None
        self.tls_error: str | None = None
        self._tls_watch.changed()
        self._allowlist_watch.changed()
        self._read_allowlist()
        self.identity = ServerIdentity.read(tls.certificate_file, tls.key_file)
        self.context: ssl.SSLContext
        self._use(self.identity)

    def poll(self) -> None:
        """Look at the files and take up what changed."""
        if self._tls_watch.changed():
            self._read_identity()
        if self._allowlist_watch.changed() and self._read_allowlist():
            self._on_change(self.access)
            self._renew()
        elif (
            self.context.session_stats()["number"] > _MAX_CACHED_SESSIONS
            or self._clock() - self._built_at > _MAX_CONTEXT_AGE
        ):
            self._renew()

    def _renew(self) -> None:
        """A new context for what is in force; without one the old stays, and the decision per request holds all the same."""
        try:
            self._use(self.identity)
        except TlsError as error:
            self._report(str(error))
            self._built_at = self._clock()

    def _read_identity(self) -> None:
        try:
            identity = ServerIdentity.read(self._tls.certificate_file, self._tls.key_file)
            self._use(identity)
        except TlsError as error:
            if str(error) != self.tls_error:
                _log.error("server certificate not taken up", error=str(error))
            self.tls_error = str(error)
            return
        self.tls_error = None
        if identity.sha256 != self.identity.sha256:
            _log.info("server certificate", sha256=identity.sha256, not_after=identity.not_after.isoformat())
        self.identity = identity

    def _use(self, identity: ServerIdentity) -> None:
        now = self._clock()
        self.context = server_context(identity, self._tls.profile, self.access.anchors(now))
        self._built_at = now

    def _read_allowlist(self) -> bool:
        """Whether a new revision is in force."""
        try:
            allowlist = Allowlist.read(self._allowlist_file)
        except ContractError as error:
            self._report(str(error))
            return False
        if allowlist.revision < self.access.revision:
            self._report(
                f"{self._allowlist_file}: revision {allowlist.revision} is older than {self.access.revision}, which stays"
            )
            return False
        access = AccessList.compile(allowlist)
        self._report("; ".join(access.problems) or None)
        if access == self.access:
            return False
        self.access = access
        _log.info("allowlist applied", revision=access.revision, serving=access.serving, entries=len(allowlist.entries))
        return True

    def _report(self, error: str | None) -> None:
        if error and error != self.allowlist_error:
            _log.error("allowlist not applied in full", error=error)
        self.allowlist_error = error
