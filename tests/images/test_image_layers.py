"""Layers: equal bytes for equal content, and nothing a foreign uid cannot use."""

import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kind.images.layertar import EPOCH, names, unpack, write_layer

NAMES = st.lists(
    st.lists(st.sampled_from(["a", "b", "Z", "ü", "x" * 120, ".h", "a.b"]), min_size=1, max_size=4).map(tuple),
    max_size=8,
)


def make_tree(root: Path, files: dict[str, tuple[str, int]]) -> Path:
    for name, (content, mode) in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
    return root


FILES = {"usr/bin/tool": ("#!", 0o700), "etc/secretive.conf": ("x = 1\n", 0o600), "etc/setuid": ("", 0o4755)}


def test_order_time_and_owner_do_not_matter(tmp_path: Path) -> None:
    first = make_tree(tmp_path / "a", FILES)
    second = make_tree(tmp_path / "b", dict(reversed(FILES.items())))
    for path in second.rglob("*"):
        os.utime(path, (1, 1))
    one = write_layer(first, tmp_path / "a.tar")
    two = write_layer(second, tmp_path / "b.tar")
    assert (one.sha256, one.size) == (two.sha256, two.size)
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.size == one.path.stat().st_size


def test_content_and_x_bit_matter(tmp_path: Path) -> None:
    base = write_layer(make_tree(tmp_path / "a", FILES), tmp_path / "a.tar")
    changed = write_layer(
        make_tree(tmp_path / "b", FILES | {"etc/secretive.conf": ("x = 2\n", 0o600)}), tmp_path / "b.tar"
    )
    plain = write_layer(make_tree(tmp_path / "c", FILES | {"usr/bin/tool": ("#!", 0o600)}), tmp_path / "c.tar")
    assert len({base.sha256, changed.sha256, plain.sha256}) == 3


def test_modes_and_owners_are_those_of_an_image(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "a", FILES)
    (tree / "tmp").mkdir(mode=0o700)
    (tree / "link").symlink_to("/usr/bin/tool")
    layer = write_layer(tree, tmp_path / "a.tar")
    with tarfile.open(layer.path) as tar:
        members = {member.name: member for member in tar}
    assert {member.mtime for member in members.values()} == {EPOCH}
    assert {(member.uid, member.gid, member.uname) for member in members.values()} == {(0, 0, "")}
    modes = {name: member.mode for name, member in members.items()}
    assert modes["usr/bin/tool"] == 0o755
    assert modes["etc/secretive.conf"] == 0o644
    assert modes["etc/setuid"] == 0o755
    assert modes["tmp"] == 0o1777
    assert members["link"].linkname == "/usr/bin/tool"


def test_special_files_are_refused(tmp_path: Path) -> None:
    tree = tmp_path / "a"
    tree.mkdir()
    os.mkfifo(tree / "fifo")
    with pytest.raises(ValueError, match="fifo"):
        write_layer(tree, tmp_path / "a.tar")


@given(NAMES)
def test_unpacking_gives_the_tree_back(tmp_path_factory: pytest.TempPathFactory, paths: list[tuple[str, ...]]) -> None:
    work = tmp_path_factory.mktemp("layer")
    tree = work / "in"
    tree.mkdir()
    for parts in paths:
        path = tree.joinpath("d", *parts, "f")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("/".join(parts))
    layer = write_layer(tree, work / "layer.tar")
    unpack(layer.path, work / "out")
    again = write_layer(work / "out", work / "again.tar")
    assert again.sha256 == layer.sha256
    assert names(layer.path) == {path.relative_to(tree).as_posix() for path in tree.rglob("f")}
