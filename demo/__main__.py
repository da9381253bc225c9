"""``python -m demo up|down``: from nothing to a vCenter-like client using HSM-wrapped keys, on a real Kubernetes."""

from __future__ import annotations

import shutil
import ssl
import sys

import click

from demo import cluster, job
from demo.cluster import ClusterKind
from demo.kubernetes import ROOT, CommandError, Kubernetes
from demo.steps import fail, step, total
from demo.vcenter import UnexpectedAnswerError

WORK = ROOT / ".demo"


def summary(kubernetes: Kubernetes, times: tuple[float, float]) -> None:
    """The closing table and what to try next."""
    instance = kubernetes.get("kmipinstance", "vsphere", "vc-tokyo")["status"]
    print()
    print(kubernetes.kubectl("get", "kmip", "-A"))
    print(
        f"In vCenter, add a Standard Key Provider at {instance['address']}. When it asks, compare the server certificate:"
    )
    print(f"SHA-256 {instance['serverCertificate']['sha256']}")
    print(
        f"Certificate applied → accepted {times[0]:.2f} s; removed → refused {times[1]:.2f} s; all in {total():.0f} s"
    )
    shell = f"export KUBECONFIG={kubernetes.kubeconfig} PATH={kubernetes.bin_dir}:$PATH" if kubernetes.bin_dir else ""
    print("\nNext:")
    for line in filter(
        None,
        (
            shell,
            "kubectl -n vsphere describe kmipinstance vc-tokyo",
            "kubectl explain kmipinstance.spec",
            "kubectl -n vsphere logs vc-tokyo-0 -c kmipd     # the audit trail",
            "make demo-down",
        ),
    ):
        print(f"  {line}")


_cluster = click.option(
    "--cluster",
    "kind",
    type=click.Choice([kind.value for kind in ClusterKind]),
    default=ClusterKind.AUTO.value,
    show_default=True,
)


@click.group()
def main() -> None:
    """Demonstrate kmip-operator on a real cluster."""


@main.command()
@_cluster
def up(kind: str) -> None:
    """Do the whole demonstration; exit code 0 only if all of it happened."""
    chosen = cluster.choose(ClusterKind(kind))
    try:
        with step(f"a Kubernetes cluster ({chosen})"):
            kubernetes = cluster.start(chosen)
        with step("images onto the nodes"):
            cluster.load_images(chosen)
        with step("helm upgrade --install kmip-operator"):
            job.install(kubernetes)
        endpoint = job.vsphere(kubernetes, WORK)
        job.use(kubernetes, endpoint, WORK)
        times = job.rotate(kubernetes, endpoint, WORK)
        job.regions(kubernetes, WORK)
        summary(kubernetes, times)
    except (CommandError, TimeoutError, UnexpectedAnswerError, OSError, ssl.SSLError) as error:
        fail(str(error))
        sys.exit(1)


@main.command()
@_cluster
def down(kind: str) -> None:
    """Remove the cluster the demonstration made."""
    cluster.stop(cluster.choose(ClusterKind(kind)))
    shutil.rmtree(WORK, ignore_errors=True)


if __name__ == "__main__":
    main()
