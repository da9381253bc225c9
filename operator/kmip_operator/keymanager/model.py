"""The KeyManager resource."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from kmip_operator.resource import (
    SET_LIST,
    AbsolutePath,
    ApiModel,
    ImageReference,
    ObjectName,
    PullPolicy,
    Reference,
    Resources,
    SecretKeyReference,
    Status,
    map_list,
    rule,
    rules,
    union,
)

CONFIG_DIRECTORY = "/etc/kmip/module"
"""Where the keys of ``configSecretRef`` are files."""

IMAGE_DIRECTORY = "/opt/kmip/module"
"""Where ``module.image`` is mounted."""


class KeyManagerType(StrEnum):
    """What kind of key manager it is."""

    PKCS11 = "PKCS11"
    SOFTWARE = "Software"


class Mechanism(StrEnum):
    """How keys are wrapped in the token."""

    AUTO = "Auto"
    AES_GCM = "AES_GCM"
    AES_KEY_WRAP_PAD = "AES_KEY_WRAP_PAD"
    AES_CBC_PAD_HMAC = "AES_CBC_PAD_HMAC"


class Pkcs11Module(ApiModel):
    """The vendor's PKCS#11 library."""

    path: AbsolutePath
    """Path of the library: in the custody container's image, or in module.image when that is given."""
    image: ImageReference | None = None
    """An image that holds the library and what it needs. It is mounted read-only at /opt/kmip/module (an image volume);
    nothing in it is run. Without it, the custody image itself must hold the library."""
    image_pull_policy: PullPolicy | None = None
    """When to fetch module.image. Default: the cluster's default for the image's tag."""


class EnvironmentVariable(ApiModel):
    """One variable. Never put a PIN or password here."""

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """Name of the variable, such as SOFTHSM2_CONF."""
    value: Annotated[str, Field(max_length=4096)]
    """Its value. Files of configSecretRef are in /etc/kmip/module."""


class VolumeClaimReference(ApiModel):
    """A volume for modules that keep files."""

    name: ObjectName
    """Name of the PersistentVolumeClaim, in the same namespace."""
    mount_path: AbsolutePath
    """Where the module expects its files, such as /var/lib/softhsm/tokens."""


class Pkcs11(ApiModel):
    """A token behind a PKCS#11 library: a hardware security module, or a software one for tests."""

    token_label: Annotated[str, Field(min_length=1, max_length=32)]
    """Label of the token (PKCS#11 CKT label, without its padding)."""
    module: Pkcs11Module
    """The library to load."""
    config_secret_ref: Reference | None = None
    """A Secret with the library's configuration files (client configuration, client certificate and key). Each key of it is
    a file in /etc/kmip/module."""
    environment: (
        Annotated[list[EnvironmentVariable], Field(max_length=32, json_schema_extra=map_list("name"))] | None
    ) = None
    """Environment variables the library needs, such as SOFTHSM2_CONF: /etc/kmip/module/softhsm2.conf."""
    volume_claim_ref: VolumeClaimReference | None = None
    """A PersistentVolumeClaim for libraries that keep files. Every serving pod and Job mounts it, so it must be mountable
    wherever they run."""
    mechanism: Mechanism | None = None
    """How keys are wrapped. Auto (default) takes the strongest the token has: AES_GCM, then AES_KEY_WRAP_PAD, then
    AES_CBC_PAD_HMAC."""


class Credential(ApiModel):
    """Where a credential is kept."""

    secret_ref: SecretKeyReference
    """The Secret and its key that holds the credential. Default key: pin for PKCS11 (the user PIN), seed for Software (at
    least 32 random bytes). The operator never reads it: it is mounted into the containers that talk to the key manager."""


class Credentials(ApiModel):
    """What to log in with."""

    use: Credential
    """For the serving pods: may use the root key, needs no right to create or delete keys."""
    manage: Credential | None = None
    """For Jobs that create, adopt and describe root keys. Default: the same as use."""


class Location(ApiModel):
    """Where the key manager stands."""

    region: Annotated[str, Field(min_length=1, max_length=63)]
    """The region, as nodes have it in topology.kubernetes.io/region."""
    zones: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=63)]], Field(max_length=16, json_schema_extra=SET_LIST)
        ]
        | None
    ) = None
    """The zones it spans, as nodes have them in topology.kubernetes.io/zone."""


class Custody(ApiModel):
    """The container that holds the library and the credentials, in serving pods and in Jobs."""

    image: ImageReference | None = None
    """An image of your own with the vendor's client in it. Default: the operator's custody image."""
    image_pull_policy: PullPolicy | None = None
    """When to fetch the image. Default: the operator's setting."""
    image_pull_secrets: Annotated[list[Reference], Field(max_length=8, json_schema_extra=map_list("name"))] | None = (
        None
    )
    """Secrets (kubernetes.io/dockerconfigjson) to fetch the images of these pods with."""
    run_as_user: Annotated[int, Field(ge=1, le=2147483647)] | None = None
    """The uid of the pods that use this key manager. Default: 65532."""
    fs_group: Annotated[int, Field(ge=1, le=2147483647)] | None = None
    """The group that owns their volumes. Default: 65532."""
    resources: Resources | None = None
    """Compute resources of the container. Default: requests of 10m cpu and 48Mi memory, no limits."""


class KeyManagerSpec(ApiModel):
    """What the user says."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *union("type", PKCS11="pkcs11"),
            rule("self.type == oldSelf.type", "type cannot be changed: make another KeyManager"),
        )
    )

    type: KeyManagerType
    """PKCS11: a token behind a PKCS#11 library. Software: for evaluation only, root keys are derived from a seed in a
    Secret, so whoever reads the Secret has every key."""
    pkcs11: Pkcs11 | None = None
    """The token and its library. Only with type PKCS11."""
    credentials: Credentials
    """What to log in with. A credential is tried once by a Job; serving pods log in only with one that a Job confirmed, so
    a mistyped PIN never locks a token."""
    location: Location | None = None
    """Where the key manager stands."""
    custody: Custody | None = None
    """The container that talks to the key manager."""


class Provider(ApiModel):
    """What the key manager says of itself."""

    manufacturer: str | None = None
    """Who made it."""
    model: str | None = None
    """Its model."""
    serial: str | None = None
    """Its serial number."""
    firmware: str | None = None
    """Its firmware version."""
    mechanism: str | None = None
    """The mechanism keys are wrapped with."""


class ConfirmedCredential(ApiModel):
    """A credential a Job logged in with."""

    secret_uid: str
    """uid of the Secret."""
    secret_resource_version: str
    """The Secret's resourceVersion when it was confirmed."""
    hmac: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """HMAC-SHA-256 of the credential under a random key of this KeyManager. Serving pods refuse to log in with any
    other."""
    request: Annotated[str, Field(max_length=64)]
    """What the Job was for: the specification, the Secret's version and the image, as a hash."""


class ConfirmedCredentials(ApiModel):
    """The credentials that Jobs confirmed."""

    use: ConfirmedCredential | None = None
    """The credential of the serving pods."""
    manage: ConfirmedCredential | None = None
    """The credential of Jobs."""


class RefusedCredential(ApiModel):
    """A credential the key manager refused."""

    request: Annotated[str, Field(min_length=1, max_length=64)]
    """What the Job was for: the specification, the Secret's version and the image, as a hash."""
    message: Annotated[str, Field(max_length=1024)]
    """What the key manager said."""


class KeyManagerStatus(Status):
    """What the operator answers."""

    provider: Provider | None = None
    """What the key manager says of itself."""
    summary: str | None = None
    """The key manager in one line."""
    credentials: ConfirmedCredentials | None = None
    """The credentials that Jobs confirmed."""
    refused_credentials: (
        Annotated[list[RefusedCredential], Field(max_length=16, json_schema_extra=map_list("request"))] | None
    ) = None
    """The requests whose credential was refused, the latest last. None of them is sent again, also when its Job is gone."""
    root_keys: Annotated[list[ObjectName], Field(json_schema_extra=SET_LIST)] | None = None
    """The RootKeys that are kept in this key manager. While there are any, it cannot be deleted."""


class KeyManager(ApiModel):
    """Where root keys live: a hardware security module behind PKCS#11, or a software stand-in for evaluation.

    It says how to reach the key manager and with which credentials; the operator tries each of them once and answers in status.
    """

    spec: KeyManagerSpec
    """What the key manager is and how to reach it."""
    status: KeyManagerStatus | None = None
    """Whether it can be reached, and what it is. Written by the operator."""
