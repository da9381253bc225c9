"""``kmip-operator``: run the operator, print its CRDs, print its version."""

from __future__ import annotations

import importlib.metadata
import os
import socket
import sys
from pathlib import Path

import click

from kmip_operator.facts import Images
from kmip_operator.settings import Settings

_VERSION = importlib.metadata.version("kmip-operator")
_IMAGES = "localhost/kmip-operator"


@click.group(context_settings={"auto_envvar_prefix": "KMIP_OPERATOR", "show_default": True})
def main() -> None:
    """Runs KMIP servers for VMware vCenter and others on Kubernetes, their keys wrapped by a root key of your own."""


@main.command(context_settings={"auto_envvar_prefix": "KMIP_OPERATOR"})
@click.option("--identity", default=socket.gethostname, help="Name of this process in the Lease and in Events.")
@click.option("--namespace", default="default", help="Namespace of the Lease.")
@click.option("--lease-name", default="kmip-operator", help="Name of the Lease.")
@click.option("--namespaces", default="", help="Namespaces to serve, separated by commas. Empty: all of them.")
@click.option("--kmipd-image", default=f"{_IMAGES}/kmipd:{_VERSION}", help="Image of the KMIP server.")
@click.option("--custody-image", default=f"{_IMAGES}/custody:{_VERSION}", help="Image of custody.")
@click.option(
    "--image-pull-policy",
    default="IfNotPresent",
    type=click.Choice(["Always", "IfNotPresent", "Never"]),
    help="For both.",
)
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Default: the pod's account."
)
@click.option("--http-host", default="", help="Address of /livez, /readyz and /metrics. Empty: all.")
@click.option("--http-port", default=8080, type=click.IntRange(0, 65535), help="Port of the same; 0 takes a free one.")
@click.option("--workers", default=16, type=click.IntRange(1, 256), help="Objects worked on at the same time.")
@click.option(
    "--census-interval", default=300.0, type=click.FloatRange(1), help="Seconds between comparisons with the API."
)
@click.option(
    "--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]), help="How much to log."
)
def run(
    identity: str,
    namespace: str,
    lease_name: str,
    namespaces: str,
    kmipd_image: str,
    custody_image: str,
    image_pull_policy: str,
    kubeconfig: Path | None,
    http_host: str,
    http_port: int,
    workers: int,
    census_interval: float,
    log_level: str,
) -> None:
    """Run the operator. Several may run; one leads. Ends with a code other than 0 when it must be started again."""
    # The other commands must not pay for kopf and the client.
    from kmip_operator import logs, process

    logs.configure(log_level)
    settings = Settings(
        identity=identity,
        images=Images(kmipd=kmipd_image, custody=custody_image, pull_policy=image_pull_policy),
        namespace=namespace,
        lease_name=lease_name,
        namespaces=tuple(sorted({name.strip() for name in namespaces.split(",") if name.strip()})),
        kubeconfig=kubeconfig,
        http_host=http_host,
        http_port=http_port,
        workers=workers,
        census_interval=census_interval,
    )
    code = process.run(settings, _VERSION)
    # Whatever a library still holds must not delay the next leader.
    sys.stdout.flush()
    os._exit(code)


@main.command()
def crds() -> None:
    """Print the CustomResourceDefinitions as YAML."""
    from kmip_operator.crd import KINDS, render

    click.echo("---\n".join(render(kind) for kind in KINDS), nl=False)


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(_VERSION)
