"""The background process of a cluster: load balancer, volume provisioner and network policies, kept running."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path

from kind.native.agent.enforcer import Enforcer
from kind.native.agent.loadbalancer import LoadBalancer
from kind.native.agent.loop import Loop
from kind.native.agent.volumes import Provisioner
from kind.native.agent.watch import Informer
from kind.native.controlplane import environment
from kind.native.kube import Client
from kind.native.node import known
from kind.native.processes import Process, spawn
from kind.native.state import State

# A child that ends at once must not be started in a tight loop (seconds).
PAUSE_BEFORE_RESTART = 0.5


def spawn_agent(state: State, joins: Iterable[Path]) -> Process:
    """Start the agent in the background."""
    program = Path(__file__).resolve().parents[1]
    return spawn(
        [sys.executable, str(program), "agent", str(state.folder)],
        log=state.logs / "agent.log",
        environment={**environment(state), "PYTHONUNBUFFERED": "1"},
        cgroups=joins,
    )


def supervise(folder: Path) -> int:
    """Run the loops in a child process and start it again whenever it ends."""
    while True:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(State(folder))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        try:
            _, status = os.waitpid(child, 0)
        except BaseException:
            os.kill(child, signal.SIGKILL)
            raise
        print(f"agent ended with status {status} and is started again", file=sys.stderr, flush=True)
        time.sleep(PAUSE_BEFORE_RESTART)


def run(state: State) -> None:
    """Run the three loops; returns when one of their threads dies."""
    client, topology = Client(state.kubeconfig), known(state)
    informers = {
        name: Informer(client, path)
        for name, path in {
            "nodes": "/api/v1/nodes",
            "services": "/api/v1/services",
            "slices": "/apis/discovery.k8s.io/v1/endpointslices",
            "claims": "/api/v1/persistentvolumeclaims",
            "volumes": "/api/v1/persistentvolumes",
            "classes": "/apis/storage.k8s.io/v1/storageclasses",
            "pods": "/api/v1/pods",
            "namespaces": "/api/v1/namespaces",
            "policies": "/apis/networking.k8s.io/v1/networkpolicies",
        }.items()
    }

    def some(*names: str) -> list[Informer]:
        return [informers[name] for name in names]

    loops = [
        Loop("load balancer", some("services", "slices", "nodes"), LoadBalancer(client, topology).reconcile),
        Loop("volumes", some("claims", "volumes", "classes"), Provisioner(client, state, topology).reconcile),
        Loop("network policies", some("policies", "pods", "namespaces"), Enforcer(state, topology).reconcile),
    ]
    threads = [*informers.values(), *loops]
    for thread in threads:
        thread.start()
    while all(thread.is_alive() for thread in threads):
        time.sleep(1)
