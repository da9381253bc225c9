"""How long a client certificate takes: applied → served by every pod, removed → refused and live sessions dropped.

    python -m tests.bench.certificates [--cluster NAME] [--namespace regions --instance everywhere] [--tries 50]

Each try takes a new certificate. The clock runs from right before ``kubectl`` is started, so its own time is in the figures;
every pod is asked by itself, at its own address, which this machine must reach (it does with the native cluster).
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
from support.e2e_clients import until_dropped
from support.e2e_manifests import leaf
from support.pki import make

from demo.certificates import ClientIdentity
from demo.clients import Endpoint, endpoints
from demo.cluster import existing_native
from demo.kubernetes import Kubernetes
from demo.vcenter import Connection

NAME = "bench-certificate"
PAUSE = 0.01
"""Seconds between two handshakes with one pod: what a figure may be too long by, beside the handshake itself."""


@dataclass
class Figures:
    """Seconds, one for each try: the slowest pod counts."""

    applied: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    dropped: list[float] = field(default_factory=list)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of all do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def pods(kubernetes: Kubernetes, namespace: str, instance: str, folder: Path) -> list[Endpoint]:
    """The serving pods at their own addresses."""
    ca_file = endpoints(kubernetes, namespace, instance, folder)[0].ca_file
    selector = f"kmip.dev/instance={instance},app.kubernetes.io/component=server"
    path = "jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{'\\n'}{end}"
    lines = kubernetes.kubectl("-n", namespace, "get", "pods", "-l", selector, "-o", path).splitlines()
    return [Endpoint(name, address, 5696, ca_file) for name, address in (line.split() for line in lines)]


def until(endpoint: Endpoint, identity: ClientIdentity, *, accepted: bool) -> float:
    """Ask again and again; the moment of the first answer that is the wanted one, or after the last that is not."""
    deadline = time.monotonic() + 60
    while endpoint.accepts(identity) is not accepted:
        if time.monotonic() > deadline:
            raise click.ClickException(f"{endpoint.region}: not {'accepted' if accepted else 'refused'} within 60 s")
        time.sleep(PAUSE)
    return time.monotonic()


def ended(connection: Connection) -> float:
    """The moment at which the server ends an idle connection."""
    until_dropped(connection, timeout=60)
    return time.monotonic()


def measured(act: Callable[[], object], *groups: Sequence[Callable[[], float]]) -> list[float]:
    """Begin to wait, act; for each group the seconds from right before the act until its last wait ended."""
    with ThreadPoolExecutor(sum(map(len, groups))) as pool:
        running = [[pool.submit(wait) for wait in group] for group in groups]
        began = time.monotonic()
        act()
        return [max(wait.result() for wait in group) - began for group in running]


def one(kubernetes: Kubernetes, namespace: str, instance: str, places: list[Endpoint], figures: Figures) -> None:
    """One certificate's coming and going."""
    with TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        made = make("bench")
        identity = ClientIdentity(*made.write(Path(folder), NAME))
        manifest = json.dumps(leaf(namespace, NAME, made.pem, instance=instance))
        remove = ("-n", namespace, "delete", "clientcertificate", NAME, "--wait=false")
        (applied,) = measured(
            partial(kubernetes.apply, manifest), [partial(until, place, identity, accepted=True) for place in places]
        )
        live = [stack.enter_context(place.connect(identity)) for place in places]
        refused, dropped = measured(
            partial(kubernetes.kubectl, *remove),
            [partial(until, place, identity, accepted=False) for place in places],
            [partial(ended, connection) for connection in live],
        )
    figures.applied.append(applied)
    figures.refused.append(refused)
    figures.dropped.append(dropped)


def call_time(kubernetes: Kubernetes) -> float:
    """Seconds that the smallest kubectl command takes."""
    began = time.monotonic()
    kubernetes.kubectl("get", "--raw", "/livez")
    return time.monotonic() - began


@click.command()
@click.option("--cluster", default="kmip-demo", show_default=True, help="The native cluster.")
@click.option("--namespace", default="regions", show_default=True)
@click.option("--instance", default="everywhere", show_default=True)
@click.option("--tries", default=50, show_default=True)
def main(cluster: str, namespace: str, instance: str, tries: int) -> None:
    """Measure and print."""
    kubernetes = existing_native(cluster)
    figures = Figures()
    with TemporaryDirectory() as folder:
        places = pods(kubernetes, namespace, instance, Path(folder))
        alone = median(call_time(kubernetes) for _ in range(5))
        click.echo(
            f"{tries} certificates on {len(places)} pods of {namespace}/{instance}; kubectl alone takes {alone:.2f} s"
        )
        for number in range(tries):
            one(kubernetes, namespace, instance, places, figures)
            click.echo(f"\r{number + 1}/{tries}", nl=False)
    click.echo()
    for title, values in (
        ("applied → served by every pod", figures.applied),
        ("removed → refused by every pod", figures.refused),
        ("removed → every live session dropped", figures.dropped),
    ):
        figured = "  ".join(f"p{share * 100:g} {percentile(values, share):.2f} s" for share in (0.5, 0.99))
        click.echo(f"{title:38}{figured}  max {max(values):.2f} s")


if __name__ == "__main__":
    main()
