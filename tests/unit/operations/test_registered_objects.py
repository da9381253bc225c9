"""Registering what real clients register, and getting it back."""

from __future__ import annotations

import asyncio
import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from support import kmip_wire as f
from support.kmip_engine import Kmip

INVALID_FIELD, ITEM_NOT_FOUND, PERMISSION_DENIED, KEY_FORMAT, ILLEGAL = 7, 1, 12, 16, 11


def secret(kind: int, value: bytes) -> bytes:
    return f.structure(
        0x420085,
        f.enum(0x420086, kind),
        f.structure(0x420040, f.enum(0x420042, 2), f.structure(0x420045, f.octets(0x420043, value))),
    )


def opaque(value: bytes, kind: int = 0x80000001) -> bytes:
    return f.structure(0x42005B, f.enum(0x420059, kind), f.octets(0x42005A, value))


def key_object(tag: int, key_format: int, value: bytes, algorithm: int, length: int) -> bytes:
    return f.structure(
        tag,
        f.structure(
            0x420040,
            f.enum(0x420042, key_format),
            f.structure(0x420045, f.octets(0x420043, value)),
            f.enum(0x420028, algorithm),
            f.integer(0x42002A, length),
        ),
    )


async def register(kmip: Kmip, kind: int, structure: bytes, *attributes: bytes, at: tuple[int, int] = (1, 2)) -> str:
    payload = await kmip.ok(3, f.enum(0x420057, kind) + f.template(*attributes) + structure, at=at)
    assert payload.tags == [0x420094]
    return str(payload.one(0x420094).value)


async def got(kmip: Kmip, uid: str, *more: bytes) -> f.Node:
    payload = await kmip.ok(10, f.uid(uid) + b"".join(more))
    assert payload.tags[:2] == [0x420057, 0x420094]
    found: f.Node = payload.value[2]
    return found


def raw(data: bytes) -> f.Node:
    return f.parse(data)[0]


MASK = f.attribute("Cryptographic Usage Mask", f.integer(0, 12))


async def test_a_named_key_as_pg_tde_keeps_it(kmip: Kmip) -> None:
    """Registered at 1.4 with a compression that means nothing, located and fetched at 1.0 by the same program."""
    key = os.urandom(32)
    name = f.attribute("Name", f.name_value("tde-1"))
    uid = await register(kmip, 2, f.symmetric_key(key, compression=1), MASK, name, at=(1, 4))
    found = await kmip.locate(f.integer(0x42004F, 16), f.attribute("Object Type", f.enum(0, 2)), name, at=(1, 0))
    assert found == [uid]
    payload = await kmip.ok(10, f.uid(uid), at=(1, 0))
    assert payload.value[2] == raw(f.symmetric_key(key))


async def test_a_seed_without_algorithm_and_usage_as_mongodb_keeps_it(kmip: Kmip) -> None:
    value = os.urandom(96)
    uid = await register(kmip, 7, secret(2, value), f.attribute("Cryptographic Usage Mask", f.integer(0, 0)), at=(1, 0))
    await kmip.ok(18, f.uid(uid), at=(1, 0))
    payload = await kmip.ok(10, f.uid(uid), at=(1, 0))
    assert payload.value[2] == raw(secret(2, value))
    assert await kmip.state(uid) == 2


async def test_a_password_as_synology_keeps_it(kmip: Kmip) -> None:
    name = f.attribute("Name", f.name_value("ab" * 64))
    policy = f.attribute("Operation Policy Name", f.text(0, "default"))
    uid = await register(
        kmip, 7, secret(1, b"pass"), f.attribute("Cryptographic Usage Mask", f.integer(0, 2)), policy, name
    )
    changed = await kmip.ok(14, f.uid(uid) + f.attribute("Name", f.name_value("cd" * 64)), at=(1, 2))
    assert changed.one(0x420008).one(0x42000B).one(0x420055).value == "cd" * 64
    await kmip.ok(18, f.uid(uid), at=(1, 2))
    assert await kmip.locate(name, at=(1, 2)) == []
    assert await kmip.locate(f.attribute("Name", f.name_value("cd" * 64)), at=(1, 2)) == [uid]
    kept = await kmip.attributes(uid, "State", "Object Type", at=(1, 2))
    assert [kept["State"][0].value, kept["Object Type"][0].value] == [2, 7]
    names = await kmip.ok(12, f.uid(uid), at=(1, 2))
    assert "Operation Policy Name" in [node.value for node in names.all(0x42000A)]
    await kmip.ok(19, f.uid(uid) + f.structure(0x420081, f.enum(0x420082, 1)), at=(1, 2))
    await kmip.ok(20, f.uid(uid), at=(1, 2))


async def test_attribute_indexes_before_values_as_mysql_sends_them(kmip: Kmip) -> None:
    template = f.template(
        f.attribute("Cryptographic Algorithm", f.enum(0, 3), 0),
        f.attribute("Cryptographic Length", f.integer(0, 256), 0),
        f.attribute("Cryptographic Usage Mask", f.integer(0, 12), 0),
    )
    await kmip.ok(1, f.enum(0x420057, 2) + template, at=(1, 1))
    only_mask = f.template(f.attribute("Storage Status Mask", f.integer(0, 1), 0))
    item = await kmip.call(1, f.enum(0x420057, 2) + only_mask, at=(1, 1))
    assert item.message == "Cryptographic Algorithm is required"


async def test_every_kind_of_object_comes_back_as_it_was(kmip: Kmip) -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    split = f.structure(
        0x420089,
        f.integer(0x42008B, 3),
        f.integer(0x420044, 1),
        f.integer(0x42008C, 2),
        f.enum(0x42008A, 1),
        f.structure(
            0x420040,
            f.enum(0x420042, 1),
            f.structure(0x420045, f.octets(0x420043, b"k" * 16)),
            f.enum(0x420028, 3),
            f.integer(0x42002A, 128),
        ),
    )
    objects = {
        3: key_object(0x42006D, 5, spki, 6, 256),
        5: split,
        7: secret(1, b"\0 not text \xff"),
        8: opaque(os.urandom(3000)),
    }
    for kind, structure in objects.items():
        uid = await register(kmip, kind, structure)
        assert await got(kmip, uid) == raw(structure)


async def test_attributes_inside_the_key_value_become_the_objects_own(kmip: Kmip) -> None:
    inside = f.structure(
        0x42008F,
        f.structure(
            0x420040,
            f.enum(0x420042, 1),
            f.structure(
                0x420045,
                f.octets(0x420043, b"k" * 16),
                f.attribute("x-Origin", f.text(0, "elsewhere")),
                f.attribute("State", f.enum(0, 2)),
            ),
            f.enum(0x420028, 3),
            f.integer(0x42002A, 128),
        ),
    )
    uid = await register(kmip, 2, inside, MASK)
    assert (await kmip.attributes(uid, "x-Origin"))["x-Origin"][0].value == "elsewhere"
    assert await kmip.state(uid) == 1
    assert await got(kmip, uid) == raw(f.symmetric_key(b"k" * 16))


@pytest.mark.parametrize(
    ("kind", "structure"),
    [
        (2, opaque(b"x")),
        (2, f.structure(0x42008F)),
        (2, f.structure(0x42008F, f.structure(0x420040, f.enum(0x420042, 1), f.structure(0x420045)))),
        (8, f.structure(0x42005B, f.enum(0x420059, 1))),
        (1, f.structure(0x420013, f.enum(0x42001D, 1), f.octets(0x42001E, b"not a certificate"))),
        (2, key_object(0x42008F, 1, b"k" * 16, 3, 256)),
        (2, key_object(0x42008F, 1, b"k" * 24, 2, -1)),
        (99, opaque(b"x")),
    ],
)
async def test_an_object_that_is_not_one_is_refused(kmip: Kmip, kind: int, structure: bytes) -> None:
    item = await kmip.call(3, f.enum(0x420057, kind) + f.template(MASK) + structure)
    assert item.reason == INVALID_FIELD
    assert await kmip.locate() == []


async def test_key_block_and_attributes_must_agree(kmip: Kmip) -> None:
    wrong = f.attribute("Cryptographic Length", f.integer(0, 128))
    item = await kmip.call(3, f.enum(0x420057, 2) + f.template(wrong) + f.symmetric_key(b"k" * 32))
    assert item.reason == INVALID_FIELD


async def test_a_key_without_its_value(kmip: Kmip) -> None:
    """A key that is kept elsewhere (KMIP 1.2): described here, its value not."""
    place = f.attribute("Key Value Location", f.structure(0, f.text(0x4200B9, "HSM-1"), f.enum(0x4200BA, 1)))
    structure = f.structure(
        0x42008F, f.structure(0x420040, f.enum(0x420042, 1), f.enum(0x420028, 3), f.integer(0x42002A, 128))
    )
    uid = await register(kmip, 2, structure, MASK, place)
    assert await got(kmip, uid) == raw(structure)
    kept = await kmip.attributes(uid, "Key Value Present", "Digest", at=(1, 2))
    assert kept["Key Value Present"][0].value is False
    assert "Digest" not in kept
    assert await kmip.locate(f.attribute("Key Value Present", f.boolean(0, False)), at=(1, 2)) == [uid]


async def digest(kmip: Kmip, uid: str) -> tuple[bytes, int | None]:
    (value,) = (await kmip.attributes(uid, "Digest"))["Digest"]
    assert value.one(0x420038).value == 6
    return value.one(0x420035).value, value.one(0x420042).value if value.has(0x420042) else None


async def test_digests(kmip: Kmip) -> None:
    key = os.urandom(32)
    uid = await register(kmip, 2, f.symmetric_key(key), MASK)
    assert await digest(kmip, uid) == (hashlib.sha256(key).digest(), 1)
    created = await kmip.create()
    value = (await got(kmip, created)).one(0x420040).one(0x420045).one(0x420043).value
    assert await digest(kmip, created) == (hashlib.sha256(value).digest(), 1)
    transparent = f.structure(0x420043, f.octets(0x42003F, key))
    block = f.structure(
        0x420040, f.enum(0x420042, 7), f.structure(0x420045, transparent), f.enum(0x420028, 3), f.integer(0x42002A, 256)
    )
    uid = await register(kmip, 2, f.structure(0x42008F, block), MASK)
    assert await digest(kmip, uid) == (hashlib.sha256(transparent).digest(), 7)


async def test_guessable_secrets_have_no_digest_at_rest(kmip: Kmip, tmp_path: Path) -> None:
    value = b"password1"
    for kind, structure in ((7, secret(1, value)), (8, opaque(value))):
        uid = await register(kmip, kind, structure)
        assert (await digest(kmip, uid))[0] == hashlib.sha256(value).digest()
    await kmip.storage.aclose()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("kmip.db*"))
    assert value not in stored
    assert hashlib.sha256(value).digest() not in stored


def certificate(serial: int = 0x0123) -> tuple[bytes, bytes]:
    """A certificate's DER, and its issuer's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "kmip client"), x509.NameAttribute(NameOID.COUNTRY_NAME, "JP")]
    )
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.DER), name.public_bytes()


async def test_a_certificate_is_described(kmip: Kmip) -> None:
    der, name = certificate()
    structure = f.structure(0x420013, f.enum(0x42001D, 1), f.octets(0x42001E, der))
    uid = await register(kmip, 1, structure)
    assert await got(kmip, uid) == raw(structure)
    kept = await kmip.attributes(uid, at=(1, 4))
    assert kept["Certificate Length"][0].value == len(der)
    assert kept["Digital Signature Algorithm"][0].value == 14
    identifier = kept["X.509 Certificate Identifier"][0]
    assert identifier.one(0x4200B2).value == name
    assert identifier.one(0x4200AF).value == b"\x02\x02\x01\x23"
    assert kept["X.509 Certificate Subject"][0].one(0x4200B4).value == name
    assert kept["Certificate Identifier"][0].one(0x420087).value == "0123"
    assert (kept["Cryptographic Algorithm"][0].value, kept["Cryptographic Length"][0].value) == (6, 256)
    old = await kmip.attributes(uid, at=(1, 0))
    assert "Certificate Length" not in old
    assert not any(name.startswith("X.509") for name in old)


async def test_key_formats_are_converted_where_they_can_be(kmip: Kmip) -> None:
    key = os.urandom(16)
    uid = await register(kmip, 2, f.symmetric_key(key), MASK)
    block = (await got(kmip, uid, f.enum(0x420042, 7))).one(0x420040)
    assert block.one(0x420042).value == 7
    assert block.one(0x420045).one(0x420043).one(0x42003F).value == key
    pair = rsa.generate_private_key(65537, 2048)
    pkcs8 = pair.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    pkcs1 = pair.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    uid = await register(kmip, 4, key_object(0x420064, 4, pkcs8, 4, 2048))
    assert await got(kmip, uid, f.enum(0x420042, 3)) == raw(key_object(0x420064, 3, pkcs1, 4, 2048))
    assert await got(kmip, uid, f.enum(0x420042, 4)) == raw(key_object(0x420064, 4, pkcs8, 4, 2048))
    for wanted in (5, 10, 22):
        assert (await kmip.call(10, f.uid(uid) + f.enum(0x420042, wanted))).reason == KEY_FORMAT


def wrapping(uid: str, *more: bytes) -> bytes:
    return f.structure(
        0x420047,
        f.enum(0x42009E, 1),
        f.structure(0x420036, f.uid(uid), f.structure(0x42002B, f.enum(0x420011, 13))),
        *more,
    )


async def test_get_wraps_under_another_key(kmip: Kmip) -> None:
    kek, key = os.urandom(32), os.urandom(32)
    wraps = f.attribute("Cryptographic Usage Mask", f.integer(0, 16))
    uid = await register(kmip, 2, f.symmetric_key(key), MASK, f.attribute("x-Tag", f.text(0, "one")))
    wrapper = await register(kmip, 2, f.symmetric_key(kek), wraps)
    plain = f.enum(0x4200A3, 1)
    assert (await kmip.call(10, f.uid(uid) + wrapping(wrapper, plain))).reason == PERMISSION_DENIED
    await kmip.ok(18, f.uid(wrapper))
    block = (await got(kmip, uid, wrapping(wrapper, plain))).one(0x420040)
    assert aes_key_unwrap(kek, block.one(0x420045).value) == key
    assert block.one(0x420046).one(0x420036).one(0x420094).value == wrapper
    block = (await got(kmip, uid, wrapping(wrapper, f.text(0x42000A, "x-Tag")))).one(0x420040)
    (value,) = f.parse(aes_key_unwrap(kek, block.one(0x420045).value))
    assert value.tag == 0x420045
    assert value.one(0x420043).value == key
    assert value.one(0x420008).one(0x42000B).value == "one"
    assert (await kmip.call(10, f.uid(uid) + wrapping("nobody", plain))).reason == ITEM_NOT_FOUND
    assert (await kmip.call(10, f.uid(wrapper) + wrapping(uid, plain))).reason == PERMISSION_DENIED


async def test_sensitive_and_unextractable_objects(kmip: Kmip) -> None:
    wrapper = await register(
        kmip, 2, f.symmetric_key(os.urandom(32)), f.attribute("Cryptographic Usage Mask", f.integer(0, 16))
    )
    await kmip.ok(18, f.uid(wrapper))
    sensitive = await kmip.create(f.attribute("Sensitive", f.boolean(0, True)))
    assert (await kmip.call(10, f.uid(sensitive), at=(1, 4))).reason == 22
    assert (await kmip.call(10, f.uid(sensitive), at=(1, 2))).reason == PERMISSION_DENIED
    await got(kmip, sensitive, wrapping(wrapper, f.enum(0x4200A3, 1)))
    kept = await kmip.attributes(sensitive, "Sensitive", "Always Sensitive", "Extractable", "Never Extractable")
    assert [values[0].value for values in kept.values()] == [True, True, True, False]
    await kmip.ok(14, f.uid(sensitive) + f.attribute("Sensitive", f.boolean(0, False)))
    await got(kmip, sensitive)
    assert (await kmip.attributes(sensitive, "Always Sensitive"))["Always Sensitive"][0].value is False
    kept_here = await kmip.create(f.attribute("Extractable", f.boolean(0, False)))
    assert (await kmip.call(10, f.uid(kept_here), at=(1, 4))).reason == 23
    assert (await kmip.call(10, f.uid(kept_here) + wrapping(wrapper), at=(1, 4))).reason == 23


async def test_templates_give_their_attributes(kmip: Kmip) -> None:
    name = f.structure(0x420053, f.text(0x420055, "T"), f.enum(0x420054, 1))
    content = f.structure(
        0x420090,
        f.attribute("Cryptographic Algorithm", f.enum(0, 3)),
        f.attribute("Cryptographic Length", f.integer(0, 128)),
        f.attribute("Object Group", f.text(0, "group")),
        f.attribute("Name", f.name_value("T")),
    )
    uid = await register(kmip, 6, content, at=(1, 0))
    assert await kmip.locate(f.attribute("Object Type", f.enum(0, 6)), at=(1, 0)) == [uid]
    more = f.attribute("Cryptographic Length", f.integer(0, 256)) + f.attribute("Object Group", f.text(0, "other"))
    payload = await kmip.ok(1, f.enum(0x420057, 2) + f.template(name, more), at=(1, 0))
    made = payload.one(0x420094).value
    kept = await kmip.attributes(made, at=(1, 0))
    assert kept["Cryptographic Length"][0].value == 256
    assert [node.value for node in kept["Object Group"]] == ["group", "other"]
    assert "Name" not in kept
    unknown = f.structure(0x420053, f.text(0x420055, "U"), f.enum(0x420054, 1))
    assert (await kmip.call(1, f.enum(0x420057, 2) + f.template(unknown))).reason == ITEM_NOT_FOUND


@pytest.mark.parametrize(
    ("algorithm", "bits", "material"),
    [(3, 128, 16), (3, 192, 24), (2, 168, 24), (2, 112, 16), (9, 256, 32), (24, 80, 10), (17, 256, 32)],
)
async def test_created_keys_have_their_length(kmip: Kmip, algorithm: int, bits: int, material: int) -> None:
    template = f.template(
        f.attribute("Cryptographic Algorithm", f.enum(0, algorithm)),
        f.attribute("Cryptographic Length", f.integer(0, bits)),
    )
    uid = (await kmip.ok(1, f.enum(0x420057, 2) + template)).one(0x420094).value
    block = (await got(kmip, uid)).one(0x420040)
    assert len(block.one(0x420045).one(0x420043).value) == material
    assert block.one(0x42002A).value == bits


@pytest.mark.parametrize(
    ("algorithm", "bits"), [(3, 129), (3, 512), (4, 2048), (3, 0), (3, -8), (9, 2**31 - 8), (77, 128)]
)
async def test_keys_that_cannot_be_are_refused(kmip: Kmip, algorithm: int, bits: int) -> None:
    template = f.template(
        f.attribute("Cryptographic Algorithm", f.enum(0, algorithm)),
        f.attribute("Cryptographic Length", f.integer(0, bits)),
    )
    assert (await kmip.call(1, f.enum(0x420057, 2) + template)).reason == INVALID_FIELD


async def test_two_objects_never_share_a_name(kmip: Kmip) -> None:
    name = f.attribute("Name", f.name_value("only one"))
    first = await kmip.create(name)
    assert (await kmip.call(1, f.create_payload(256, name))).reason == ILLEGAL
    second = await kmip.create()
    assert (await kmip.call(13, f.uid(second) + name)).reason == ILLEGAL
    await kmip.ok(20, f.uid(first))
    await kmip.ok(13, f.uid(second) + name)
    assert await kmip.locate(name) == [second]


async def test_a_name_is_given_once_however_many_ask_at_once(kmip: Kmip) -> None:
    name = f.attribute("Name", f.name_value("contested"))
    others = [await kmip.create() for _ in range(4)]
    asked = [kmip.call(1, f.create_payload(256, name)) for _ in range(4)]
    asked += [kmip.call(13, f.uid(uid) + name) for uid in others]
    done = await asyncio.gather(*asked)
    assert sorted(item.status for item in done) == [0] + [1] * 7
    assert len(await kmip.locate(name)) == 1
