"""A client that sends what VMware vCenter 7.0.3 sends when a virtual machine is encrypted.

Eight connections, two pairs of them overlapping, each: TLS handshake, DiscoverVersions without a batch item identifier, one to
four further messages, close. The header always says KMIP 1.1 and batch item identifiers are ``QLKC`` with a counter. The TTLV
here is written from KMIP 1.1 §9.1 for these few messages alone, so that the server is checked by something that shares no code
with it.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

Value = int | str | bytes | list["Item"]
Item = tuple[int, int, Value]

STRUCTURE, INTEGER, ENUMERATION, TEXT, BYTES = 1, 2, 5, 7, 8

ATTRIBUTE, ATTRIBUTE_NAME, ATTRIBUTE_VALUE = 0x420008, 0x42000A, 0x42000B
BATCH_COUNT, BATCH_ITEM, UNIQUE_BATCH_ITEM_ID = 0x42000D, 0x42000F, 0x420093
KEY_MATERIAL, OBJECT_TYPE, OPERATION = 0x420043, 0x420057, 0x42005C
REQUEST_HEADER, REQUEST_MESSAGE, REQUEST_PAYLOAD = 0x420077, 0x420078, 0x420079
PROTOCOL_VERSION, PROTOCOL_MAJOR, PROTOCOL_MINOR = 0x420069, 0x42006A, 0x42006B
RESULT_MESSAGE, RESULT_STATUS, TEMPLATE_ATTRIBUTE, UNIQUE_IDENTIFIER = 0x42007D, 0x42007F, 0x420091, 0x420094

CREATE, GET, GET_ATTRIBUTES, ADD_ATTRIBUTE, ACTIVATE, DISCOVER_VERSIONS = 0x01, 0x0A, 0x0B, 0x0D, 0x12, 0x1E
PRE_ACTIVE = 1


class UnexpectedAnswerError(Exception):
    """The server answered, but not as vCenter needs it to."""


def encode(item: Item) -> bytes:
    """One TTLV item (KMIP 1.1 §9.1.1)."""
    tag, kind, value = item
    if isinstance(value, list):
        body = b"".join(encode(child) for child in value)
    elif isinstance(value, int):
        body = struct.pack(">I", value)
    else:
        body = value.encode() if isinstance(value, str) else value
    padding = b"\0" * (-len(body) % 8)
    return tag.to_bytes(3, "big") + bytes([kind]) + struct.pack(">I", len(body)) + body + padding


def decode(data: bytes) -> Iterator[Item]:
    """The items in ``data``, structures as lists."""
    offset = 0
    while offset < len(data):
        tag, kind = int.from_bytes(data[offset : offset + 3], "big"), data[offset + 3]
        (length,) = struct.unpack_from(">I", data, offset + 4)
        body = data[offset + 8 : offset + 8 + length]
        offset += 8 + length + (-length % 8)
        if kind == STRUCTURE:
            yield tag, kind, list(decode(body))
        elif kind in (INTEGER, ENUMERATION):
            yield tag, kind, int.from_bytes(body, "big")
        else:
            yield tag, kind, body.decode() if kind == TEXT else body


def find(items: Sequence[Item], tag: int) -> Value:
    """The first value with ``tag``, depth first. Raises UnexpectedAnswerError when there is none."""
    for found, kind, value in items:
        if found == tag:
            return value
        if kind == STRUCTURE and isinstance(value, list):
            try:
                return find(value, tag)
            except UnexpectedAnswerError:
                continue
    raise UnexpectedAnswerError(f"no item {tag:06x} in the answer")


@dataclass
class Connection:
    """One of vCenter's short connections: opened with DiscoverVersions, closed on exit."""

    host: str
    port: int
    context: ssl.SSLContext
    timeout: float = 10.0
    sock: ssl.SSLSocket = field(init=False, repr=False)

    def __enter__(self) -> Connection:
        raw = socket.create_connection((self.host, self.port), timeout=self.timeout)
        try:
            self.sock = self.context.wrap_socket(raw)
        except BaseException:
            raw.close()
            raise
        try:
            self.send([(DISCOVER_VERSIONS, [])], identified=False)
        except BaseException:
            self.sock.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, items: Sequence[tuple[int, list[Item]]], *, identified: bool = True) -> list[list[Item]]:
        """Send one message and return its batch items; every one of them must have succeeded."""
        header: list[Item] = [
            (PROTOCOL_VERSION, STRUCTURE, [(PROTOCOL_MAJOR, INTEGER, 1), (PROTOCOL_MINOR, INTEGER, 1)]),
            (BATCH_COUNT, INTEGER, len(items)),
        ]
        batch: list[Item] = []
        for number, (operation, payload) in enumerate(items, start=1):
            identifier: list[Item] = []
            if identified:
                identifier = [(UNIQUE_BATCH_ITEM_ID, BYTES, b"QLKC" + struct.pack("<I", number))]
            batch.append(
                (
                    BATCH_ITEM,
                    STRUCTURE,
                    [(OPERATION, ENUMERATION, operation), *identifier, (REQUEST_PAYLOAD, STRUCTURE, payload)],
                )
            )
        self.sock.sendall(encode((REQUEST_MESSAGE, STRUCTURE, [(REQUEST_HEADER, STRUCTURE, header), *batch])))
        answers = [value for tag, _, value in self.receive() if tag == BATCH_ITEM and isinstance(value, list)]
        if len(answers) != len(items):
            raise UnexpectedAnswerError(f"{len(items)} items sent, {len(answers)} answered")
        for answer in answers:
            if find(answer, RESULT_STATUS) != 0:
                raise UnexpectedAnswerError(str(find(answer, RESULT_MESSAGE)))
        return answers

    def receive(self) -> list[Item]:
        """One whole response message's items."""
        head = self._exactly(8)
        (length,) = struct.unpack_from(">I", head, 4)
        return list(decode(self._exactly(length)))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            chunk = self.sock.recv(count - len(data))
            if not chunk:
                raise ConnectionError("the server closed the connection")
            data += chunk
        return data


def text_attribute(name: str, value: str) -> Item:
    """A custom attribute."""
    return (ATTRIBUTE, STRUCTURE, [(ATTRIBUTE_NAME, TEXT, name), (ATTRIBUTE_VALUE, TEXT, value)])


def create(connection: Connection) -> str:
    """Create a 256-bit AES key as vCenter does, without a name; its unique identifier."""
    template: list[Item] = [
        (ATTRIBUTE, STRUCTURE, [(ATTRIBUTE_NAME, TEXT, name), (ATTRIBUTE_VALUE, kind, value)])
        for name, kind, value in (
            ("Cryptographic Algorithm", ENUMERATION, 3),
            ("Cryptographic Usage Mask", INTEGER, 12),
            ("Cryptographic Length", INTEGER, 256),
        )
    ]
    payload: list[Item] = [(OBJECT_TYPE, ENUMERATION, 2), (TEMPLATE_ATTRIBUTE, STRUCTURE, template)]
    return str(find(connection.send([(CREATE, payload)])[0], UNIQUE_IDENTIFIER))


def get(connection: Connection, uid: str) -> bytes:
    """The key's 32 bytes."""
    material = find(connection.send([(GET, [(UNIQUE_IDENTIFIER, TEXT, uid)])])[0], KEY_MATERIAL)
    if not isinstance(material, bytes) or len(material) != 32:
        raise UnexpectedAnswerError("Get answered no 256-bit key")
    return material


def attribute(connection: Connection, uid: str, name: str) -> Value | None:
    """One attribute's value, or ``None`` where the key has none."""
    payload: list[Item] = [(UNIQUE_IDENTIFIER, TEXT, uid), (ATTRIBUTE_NAME, TEXT, name)]
    answer = connection.send([(GET_ATTRIBUTES, payload)])[0]
    try:
        return find(answer, ATTRIBUTE_VALUE)
    except UnexpectedAnswerError:
        return None


def stamp(connection: Connection, uid: str, values: dict[str, str]) -> None:
    """Ask for each custom attribute, then add them all in one message."""
    for name in values:
        if attribute(connection, uid, name) is not None:
            raise UnexpectedAnswerError(f"{name} is set before vCenter set it")
    batch = [
        (ADD_ATTRIBUTE, [(UNIQUE_IDENTIFIER, TEXT, uid), text_attribute(name, value)]) for name, value in values.items()
    ]
    for answer, value in zip(connection.send(batch), values.values(), strict=True):
        if find(answer, ATTRIBUTE_VALUE) != value:
            raise UnexpectedAnswerError("AddAttribute did not echo the attribute")


def fetch_and_activate(connection: Connection, uid: str) -> bytes:
    """Get the key while it is still Pre-Active, read its state, activate it."""
    material = get(connection, uid)
    if attribute(connection, uid, "State") != PRE_ACTIVE:
        raise UnexpectedAnswerError("a new key's State is not Pre-Active")
    connection.send([(ACTIVATE, [(UNIQUE_IDENTIFIER, TEXT, uid)])])
    return material


@dataclass(frozen=True)
class EncryptedVm:
    """What the sequence left behind: the keys' identifiers and material."""

    vm_key: str
    host_key: str
    vm_material: bytes = field(repr=False)
    host_material: bytes = field(repr=False)


PRODUCT = {"x-Product_Version": "7.0.3 build-19480866", "x-Vendor": "VMware, Inc.", "x-Product": "VMware vSphere"}
HOST = {"x-Identifier": "4c4c4544-0054", "x-Component": "ESXi Server", "x-Name": "esx01.example"}
MACHINE = {"x-Identifier": "50231f2e-9a6c", "x-Component": "Virtual Machine", "x-Name": "test01"}


def encrypt_vm(open_connection: Callable[[], Connection]) -> EncryptedVm:
    """The whole sequence, with its two overlapping pairs of connections."""
    with open_connection() as first:
        vm_key = create(first)
    with open_connection() as second, open_connection() as third, ThreadPoolExecutor(1) as other:
        stamping = other.submit(stamp, second, vm_key, PRODUCT)
        host_key = create(third)
        stamping.result()
    with open_connection() as fourth, open_connection() as fifth, ThreadPoolExecutor(1) as other:
        stamping = other.submit(stamp, fifth, host_key, PRODUCT)
        host_material = fetch_and_activate(fourth, host_key)
        stamping.result()
    with open_connection() as sixth:
        stamp(sixth, host_key, HOST)
    with open_connection() as seventh:
        vm_material = fetch_and_activate(seventh, vm_key)
    with open_connection() as eighth:
        stamp(eighth, vm_key, MACHINE)
    return EncryptedVm(vm_key, host_key, vm_material, host_material)
