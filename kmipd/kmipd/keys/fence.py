"""Whether keys may be handed out at all: the instance's switch, and the root key's state."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from kmip_contract.allowlist import Serving
from kmip_contract.custody import RootKeyState
from kmip_contract.rootkey import CustodyErrorKind, CustodyFailure
from kmipd.keys.api import KeyUnavailable

_log = structlog.get_logger("kmipd.keys")

_SWITCHED_OFF = CustodyFailure(
    kind=CustodyErrorKind.AUTHORIZATION_LOST, message="this instance is fenced: keys are withheld until it serves again"
)


class Fence:
    """Open unless the instance is switched off or its root key was revoked; closing calls ``flush`` at once.

    An unreachable key manager does not close it: cached keys are served up to their age, and every other call finds out for
    itself. ``epoch`` grows with each closing: what was asked of custody in an earlier one is not handed out.
    """

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = flush
        self._serving = Serving.ENABLED
        self._state = RootKeyState.UNKNOWN
        self._error: CustodyFailure | None = None
        self.open = True
        self.epoch = 0

    @property
    def serving(self) -> Serving:
        """The instance's switch."""
        return self._serving

    @property
    def state(self) -> RootKeyState:
        """The root key's state, as far as is known."""
        return self._state

    def refusal(self) -> KeyUnavailable:
        """Why the fence is closed."""
        failure = self._error if self._serving is Serving.ENABLED else _SWITCHED_OFF
        if failure is None:
            failure = CustodyFailure(kind=CustodyErrorKind.ROOT_KEY_DISABLED, message="the root key was revoked")
        return KeyUnavailable(failure.kind, failure.message)

    def set_serving(self, serving: Serving) -> None:
        """Turn the instance's switch."""
        if serving is not self._serving:
            _log.warning("serving switched", serving=serving.value)
        self._serving = serving
        self._settle()

    def set_root_key(self, state: RootKeyState, error: CustodyFailure | None) -> None:
        """Note the root key's state and, unless it is usable, the reason."""
        if state is not self._state:
            log = _log.info if state is RootKeyState.USABLE else _log.warning
            log(
                "root key state changed",
                state=state.value,
                previous=self._state.value,
                kind=error.kind.value if error else None,
                reason=error.message if error else None,
            )
        self._state = state
        self._error = error
        self._settle()

    def _settle(self) -> None:
        self.open = self._serving is Serving.ENABLED and self._state is not RootKeyState.REVOKED
        if not self.open:
            self.epoch += 1
            self._flush()
