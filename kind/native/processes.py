"""Background processes: started in a session of their own, known by pid and start time, killed for certain."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Every process of a cluster carries this variable, so that `down` finds it even when all files are gone.
MARK = "KMIP_NATIVE_CLUSTER"


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one of the same pid; `started` is in clock ticks since boot."""

    pid: int
    started: int

    def alive(self) -> bool:
        """Whether it runs; a zombie does not."""
        return start_time(self.pid) == self.started


def start_time(pid: int) -> int | None:
    """Start time of a running process in clock ticks since boot; None when it is gone or a zombie.

    A process whose first thread has ended is a zombie only when its other threads have too: until then it holds its
    sockets, and a successor finds the address in use.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ended = fields[0] in {"Z", "X"} and len(list(Path(f"/proc/{pid}/task").iterdir())) <= 1
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if ended else int(fields[19])


def identify(pid: int) -> Process | None:
    """The running process of this pid, if there is one."""
    started = start_time(pid)
    return None if started is None else Process(pid, started)


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    cgroups: Iterable[Path] = (),
    tied: bool = False,
) -> Process:
    """Start `command` in the background, its output appended to `log`.

    Args:
        command: Program and arguments.
        log: File for standard output and error.
        environment: Variables added to this process's own.
        cgroups: `cgroup.procs` files it writes itself into before it becomes the program, so nothing escapes.
        tied: Killed by the kernel when the calling thread ends, however it ends.
    """
    wrapped = list(command)
    if tied:
        wrapped = ["setpriv", "--pdeathsig", "KILL", "--", *wrapped]
    joins = [str(path) for path in cgroups]
    if joins:
        script = 'while [ "$1" != -- ]; do echo 0 > "$1" || exit 1; shift; done; shift; exec "$@"'
        wrapped = ["/bin/sh", "-c", script, "sh", *joins, "--", *wrapped]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            wrapped,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=os.environ | (dict(environment) if environment else {}),
        )
    started = start_time(child.pid)
    # Popen's own bookkeeping would warn about a child nobody waits for; `reap` does that by pid.
    child.returncode = 0
    return Process(child.pid, started or 0)


def kill(processes: Iterable[Process], *, within: float = 10.0) -> None:
    """SIGKILL and wait until none runs.

    Args:
        processes: Which.
        within: Seconds to wait. A killed process is gone in milliseconds unless the kernel is busy freeing its
            memory or it is stuck in the disk.

    Raises:
        TimeoutError: One is still there.
    """
    left = [process for process in processes if process.alive()]
    for process in left:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + within
    while left:
        for process in left:
            reap(process.pid)
        left = [process for process in left if process.alive()]
        if left and time.monotonic() > deadline:
            message = f"processes that survive SIGKILL: {[process.pid for process in left]}"
            raise TimeoutError(message)
        if left:
            time.sleep(0.01)


def reap(pid: int) -> None:
    """Collect a child that ended; nothing when it is not a child or still runs."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def marked(value: str) -> list[Process]:
    """Running processes whose environment has `MARK=value`, this one and its ancestors left out."""
    wanted = f"{MARK}={value}".encode()
    spared = set(_ancestors())
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in spared:
            continue
        try:
            if wanted not in (entry / "environ").read_bytes().split(b"\0"):
                continue
        except OSError:
            continue
        process = identify(int(entry.name))
        if process is not None:
            found.append(process)
    return found


def _ancestors() -> Iterable[int]:
    pid = os.getpid()
    while pid > 0:
        yield pid
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return
