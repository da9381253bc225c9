"""Archives: what the configuration says, that the archive is whole, that the Containerfile and the recipe agree."""

import hashlib
import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from kind.images.archive import Built, configuration, read_manifest, write_archive
from kind.images.layertar import Blob, write_layer
from kind.images.model import USER
from kind.images.recipe import IMAGES, LAYERS

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("operator", "kmipd", "custody", "custody-softhsm")


def make_layer(folder: Path, name: str) -> Blob:
    tree = folder / name
    tree.mkdir()
    (tree / name).write_text(name)
    return write_layer(tree, folder / f"{name}.tar")


def make_image(folder: Path, name: str = "kmipd", layers: tuple[str, ...] = ("one", "two")) -> Built:
    blobs = tuple(make_layer(folder, layer) for layer in layers)
    image = replace(IMAGES[name], layers=layers)
    return Built(image, blobs, configuration(image, blobs, "1.2.3", "x86_64"))


def test_configuration(tmp_path: Path) -> None:
    built = make_image(tmp_path)
    document = json.loads(built.config)
    assert document["architecture"] == "amd64"
    assert document["os"] == "linux"
    assert document["config"]["User"] == USER == "65532:65532"
    assert document["config"]["Entrypoint"] == ["/usr/local/bin/kmipd"]
    assert "HOME=/nonexistent" in document["config"]["Env"]
    assert "PYTHONDONTWRITEBYTECODE=1" in document["config"]["Env"]
    assert document["config"]["Labels"]["org.opencontainers.image.version"] == "1.2.3"
    assert document["rootfs"] == {"type": "layers", "diff_ids": [f"sha256:{layer.sha256}" for layer in built.layers]}
    assert len(document["history"]) == len(built.layers)


def test_archive_holds_what_its_manifest_names(tmp_path: Path) -> None:
    built = make_image(tmp_path)
    archive = tmp_path / "out" / "kmipd.tar"
    assert write_archive(archive, [built], "dev")
    (entry,) = read_manifest(archive)
    assert entry["RepoTags"] == ["localhost/kmip-operator/kmipd:dev"]
    with tarfile.open(archive) as tar:
        for name in (entry["Config"], *entry["Layers"]):
            member = tar.extractfile(name)
            assert member is not None
            assert hashlib.sha256(member.read()).hexdigest() == name.split(".")[0]


def test_same_images_give_the_same_bytes_and_are_not_written_again(tmp_path: Path) -> None:
    built = make_image(tmp_path)
    one, two = tmp_path / "a/kmipd.tar", tmp_path / "b/kmipd.tar"
    write_archive(one, [built], "dev")
    write_archive(two, [built], "dev")
    assert one.read_bytes() == two.read_bytes()
    assert not write_archive(one, [built], "dev")
    assert write_archive(one, [built], "other")
    two.write_bytes(b"broken")
    assert write_archive(two, [built], "dev")


def test_bundle_holds_a_shared_layer_once(tmp_path: Path) -> None:
    first = make_image(tmp_path, "kmipd", ("one", "two"))
    other = make_layer(tmp_path, "three")
    image = replace(IMAGES["custody"], layers=("one", "three"))
    layers = (first.layers[0], other)
    second = Built(image, layers, configuration(image, layers, "1", "x86_64"))
    write_archive(tmp_path / "bundle.tar", [first, second], "dev")
    with tarfile.open(tmp_path / "bundle.tar") as tar:
        names = tar.getnames()
    assert len(names) == len(set(names)) == 1 + 2 + 3
    assert [entry["RepoTags"][0].split("/")[-1] for entry in read_manifest(tmp_path / "bundle.tar")] == [
        "kmipd:dev",
        "custody:dev",
    ]


def stages(text: str) -> dict[str, tuple[str, str]]:
    """Stage name to its parent and its text."""
    parts = re.split(r"(?m)^FROM (\S+) AS (\S+)\n", text)
    return {parts[i + 1]: (parts[i], parts[i + 2]) for i in range(1, len(parts), 3)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_containerfile_agrees_with_the_recipe(name: str) -> None:
    found = stages((ROOT / "Containerfile").read_text())
    text, stage = "", name
    while stage in found:
        parent, body = found[stage]
        text, stage = body + text, parent
    assert stage == "scratch"
    image = IMAGES[name]
    assert set(re.findall(r"/layers/([a-z-]+)/ /", text)) == set(image.layers)
    entrypoint = re.findall(r"ENTRYPOINT (\[.*\])", text)[-1]
    assert json.loads(entrypoint) == list(image.entrypoint)
    variables = dict(word.split("=", 1) for line in re.findall(r"(?m)^ENV (.*)$", text) for word in line.split())
    assert variables == image.environment()
    assert re.findall(r"(?m)^USER (\S+)$", text) == [USER]
    assert re.findall(r'image.title="(.*)"', text)[-1] == image.title


def test_every_layer_of_an_image_exists_and_is_used() -> None:
    used = {layer for image in IMAGES.values() for layer in image.layers}
    assert used == set(LAYERS)


def test_only_the_images_that_may_hold_a_module_or_kopf_do() -> None:
    assert "wheels-custody" not in IMAGES["kmipd"].layers
    assert "wheels-operator" not in IMAGES["kmipd"].layers
    assert "softhsm" not in IMAGES["custody"].layers
    for name in PROGRAMS:
        assert "busybox" not in IMAGES[name].layers
