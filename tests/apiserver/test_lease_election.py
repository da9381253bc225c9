"""The Lease against a real API server: one leader, take-over after a kill, at once after a release."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from kmip_operator.kube.client import Client
from kmip_operator.kube.errors import NotLeadingError
from kmip_operator.kube.lease import LeadershipLostError, Lease, LeaseTimes
from kmip_operator.kube.transport import Transport, load_configuration

pytestmark = pytest.mark.apiserver

# Prints a line at each change of leadership; a pause in between would hide two leaders at a time.
CANDIDATE = """
import asyncio, sys, time
from pathlib import Path
from kmip_operator.kube.client import Client
from kmip_operator.kube.lease import Lease, LeaseTimes
from kmip_operator.kube.transport import Transport, load_configuration

async def main(kubeconfig, name, identity):
    transport = Transport(await load_configuration(Path(kubeconfig)))
    lease = Lease(Client(transport), "default", name, identity, monotonic=time.monotonic)
    await lease.acquire()
    print("leading", time.monotonic(), flush=True)
    await lease.hold()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def client(apiserver: Any) -> AsyncIterator[Client]:
    transport = Transport(await load_configuration(Path(apiserver.kubeconfig)))
    yield Client(transport)
    await transport.close()


@pytest.fixture
def lease_name() -> str:
    return f"lease-{uuid.uuid4().hex[:8]}"


def lease(client: Client, name: str, identity: str, times: LeaseTimes | None = None) -> Lease:
    return Lease(client, "default", name, identity, times=times, monotonic=time.monotonic)


FAST = LeaseTimes(duration=3, renew_deadline=2.0, renew=0.3, retry=0.2, poll=0.1)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_released_lease_is_taken_at_once(client: Client, lease_name: str) -> None:
    first, second = lease(client, lease_name, "first"), lease(client, lease_name, "second")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0)
    assert first.leading
    assert not second.leading
    await first.release()
    with pytest.raises(NotLeadingError):
        first.guard()
    async with asyncio.timeout(3):  # far below the 15 s of a holder that says nothing
        await waiting
    second.guard()
    await second.release()


async def test_one_of_many_candidates_leads(client: Client, lease_name: str) -> None:
    candidates = [lease(client, lease_name, f"candidate-{number}") for number in range(6)]
    tasks = [asyncio.create_task(candidate.acquire()) for candidate in candidates]
    await until(lambda: any(candidate.leading for candidate in candidates))
    # Two rounds of everybody's polling later there is still one.
    await asyncio.wait(tasks, timeout=2.5)
    assert sum(candidate.leading for candidate in candidates) == 1
    assert sum(task.done() for task in tasks) == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_leader_whose_lease_was_taken_stops(client: Client, lease_name: str, apiserver: Any) -> None:
    holder = lease(client, lease_name, "holder", FAST)
    await holder.acquire()
    holding = asyncio.create_task(holder.hold())
    patch = json.dumps({"spec": {"holderIdentity": "somebody-else"}})
    await asyncio.to_thread(
        apiserver.kubectl, "patch", "lease", lease_name, "-n", "default", "--type=merge", f"--patch={patch}"
    )
    with pytest.raises(LeadershipLostError):
        async with asyncio.timeout(10):
            await holding
    assert not holder.leading


async def test_a_foreign_edit_of_other_fields_does_not_end_leadership(
    client: Client, lease_name: str, apiserver: Any
) -> None:
    holder = lease(client, lease_name, "holder", FAST)
    await holder.acquire()
    holding = asyncio.create_task(holder.hold())
    await asyncio.to_thread(apiserver.kubectl, "label", "lease", lease_name, "-n", "default", "touched=yes")
    done, _ = await asyncio.wait((holding,), timeout=3.0)
    assert not done
    assert holder.leading
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)


async def test_writes_stop_before_another_may_lead(client: Client, lease_name: str) -> None:
    """A process that was paused for longer than the renew deadline writes nothing when it wakes."""
    clock = 0.0
    holder = Lease(client, "default", lease_name, "holder", monotonic=lambda: clock)
    await holder.acquire()
    clock = 9.9
    holder.guard()
    clock = 10.0
    with pytest.raises(NotLeadingError):
        holder.guard()


def test_a_killed_leader_is_replaced_within_twenty_seconds(apiserver: Any, lease_name: str, tmp_path: Path) -> None:
    script = tmp_path / "candidate.py"
    script.write_text(CANDIDATE)

    def candidate(identity: str) -> subprocess.Popen[str]:
        arguments = [sys.executable, str(script), str(apiserver.kubeconfig), lease_name, identity]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)

    first = candidate("first")
    second: subprocess.Popen[str] | None = None
    try:
        assert first.stdout is not None
        assert first.stdout.readline().startswith("leading")
        second = candidate("second")
        assert second.stdout is not None
        holder = json.loads(apiserver.kubectl("get", "lease", lease_name, "-n", "default", "-o", "json"))
        assert holder["spec"]["holderIdentity"] == "first"
        os.kill(first.pid, signal.SIGKILL)
        killed = time.monotonic()
        line = second.stdout.readline()
        took = time.monotonic() - killed
        print(f"taken over {took:.1f} s after kill -9")
        assert line.startswith("leading")
        holder = json.loads(apiserver.kubectl("get", "lease", lease_name, "-n", "default", "-o", "json"))
        assert holder["spec"]["holderIdentity"] == "second"
        assert holder["spec"]["leaseTransitions"] == 1
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()
