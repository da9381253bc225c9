"""What a PostgreSQL server promises about commits, from what it says of its settings and its standbys."""

from __future__ import annotations

from dataclasses import dataclass

from kmipd.storage.api import Durability
from kmipd.storage.postgresql.pool import Pool

_SETTINGS = (
    "SELECT current_setting('synchronous_standby_names'), current_setting('synchronous_commit'),"
    " current_setting('fsync')"
)
_STANDBYS = "SELECT application_name, state, sync_state FROM pg_stat_replication"


@dataclass(frozen=True, slots=True)
class Observation:
    """Settings as the session has them, and standbys: their names by whether a commit waits for them.

    ``hidden`` counts standbys of which the role may not know more (it is no member of ``pg_monitor``).
    """

    standby_names: str
    synchronous_commit: str
    fsync: bool
    synchronous: tuple[str, ...] = ()
    asynchronous: tuple[str, ...] = ()
    hidden: int = 0


async def observe(pool: Pool) -> Observation:
    """Ask the server."""
    names, commit, fsync = (await pool.read(_SETTINGS))[0]
    streaming: dict[bool, list[str]] = {True: [], False: []}
    hidden = 0
    for name, state, sync_state in await pool.read(_STANDBYS):
        if state is None:
            hidden += 1
        elif state == "streaming":
            streaming[sync_state in {"sync", "quorum"}].append(name)
    return Observation(
        standby_names=names,
        synchronous_commit=commit,
        fsync=fsync == "on",
        synchronous=tuple(streaming[True]),
        asynchronous=tuple(streaming[False]),
        hidden=hidden,
    )


def judge(seen: Observation) -> Durability:
    """Whether an acknowledged commit survives the loss of the server, in one sentence."""
    if not seen.fsync:
        return Durability(False, "PostgreSQL runs with fsync off: keys may be lost whenever its machine stops.")
    if seen.synchronous_commit not in {"on", "remote_apply"}:
        return Durability(
            False, f"Sessions have synchronous_commit {seen.synchronous_commit}: a pooler undoes kmipd's setting."
        )
    if not seen.standby_names.strip():
        if seen.asynchronous or seen.hidden:
            return Durability(
                False,
                "Standbys follow asynchronously (synchronous_standby_names is empty): the newest keys may be lost.",
            )
        return Durability(
            False, "One copy, without a synchronous standby: keys are lost if the server's volume is lost."
        )
    if seen.synchronous:
        return Durability(True, f"Every commit waits for a synchronous standby: {', '.join(seen.synchronous)}.")
    if seen.hidden:
        return Durability(
            True, "Every commit waits for a synchronous standby, which this role may not see (pg_monitor would let it)."
        )
    return Durability(False, "A synchronous standby is configured but none follows: writes wait until one does.")
