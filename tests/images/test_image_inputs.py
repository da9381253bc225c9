"""What goes into layers: mirrors of this machine, pins, chosen files, the project's packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kind.images import aptsources, project, wheels
from kind.images.cache import Cache, key_of
from kind.images.errors import ImageError
from kind.images.inspection import bad_modes, dangling, shells
from kind.images.model import SITE, CodeLayer
from kind.images.paths import Selection

ROOT = Path(__file__).resolve().parents[2]

DEB822 = """\
# a comment
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
 contrib

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.example/
Suites: bookworm
Components: main
"""


def machine(root: Path, identity: str, sources: str, name: str) -> Path:
    (root / "etc/apt/sources.list.d").mkdir(parents=True)
    (root / "etc/os-release").write_text(f'ID={identity}\nVERSION_CODENAME="bookworm"\n')
    (root / "etc/apt/sources.list.d" / name).write_text(sources)
    return root


def test_mirrors_of_deb822_sources(tmp_path: Path) -> None:
    lines = aptsources.mirrors("trixie", None, machine(tmp_path, "debian", DEB822, "debian.sources"))
    assert lines == [
        "deb http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/security trixie-security main",
    ]


def test_mirrors_of_one_line_sources(tmp_path: Path) -> None:
    text = "deb-src http://x.example/ bookworm main\ndeb [arch=amd64 signed-by=/k] http://m.example/d bookworm main x # c\n"
    lines = aptsources.mirrors("trixie", None, machine(tmp_path, "debian", text, "a.list"))
    assert lines == ["deb http://m.example/d trixie main"]


def test_files_apt_does_not_read_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="--mirror"):
        aptsources.mirrors("trixie", None, machine(tmp_path, "debian", DEB822, "debian.sources.disabled"))


def test_another_distribution_needs_a_mirror(tmp_path: Path) -> None:
    root = machine(tmp_path, "ubuntu", DEB822, "debian.sources")
    with pytest.raises(ImageError, match="--mirror"):
        aptsources.mirrors("trixie", None, root)
    assert (
        aptsources.mirrors("trixie", "http://given.example/debian", root)[0]
        == "deb http://given.example/debian trixie main"
    )


def test_unpinned_distributions_are_found(tmp_path: Path) -> None:
    for name, version in (("Some_Thing", "1.0"), ("other", "2.0"), ("stray", "3.0")):
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nText\n")
    allowed = wheels.pins("some-thing==1.0\nother==2.1 # newer\n")
    assert wheels.unpinned(tmp_path, allowed) == ["other==2.0", "stray==3.0"]


def test_every_requirement_of_the_distribution_is_pinned() -> None:
    table = wheels.read_project(ROOT)
    allowed = wheels.pins((ROOT / "constraints.txt").read_text())
    for requirement in wheels.requirements(table, table["optional-dependencies"]):
        ((name, version),) = wheels.pins(requirement).items()
        assert allowed[name] == version
    with pytest.raises(ImageError, match="nonsense"):
        wheels.requirements(table, ["nonsense"])


def test_selection() -> None:
    select = Selection(drop=("usr/share/doc/*", "*.pyi"), keep=("usr/share/doc/*/copyright",))
    assert select.allows("usr/bin/tool")
    assert select.allows("usr/share/doc/a/copyright")
    assert not select.allows("usr/share/doc/a/changelog.gz")
    assert not select.allows("deep/in/a.pyi")
    assert not select.plus(drop=["usr/bin/*"]).allows("usr/bin/tool")


def test_code_layer_installs_like_a_wheel(tmp_path: Path) -> None:
    package = tmp_path / "in/src/sample"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__init__.py").write_text("def main():\n    return 7\n")
    (package / "py.typed").write_text("")
    (package / "__pycache__/junk.pyc").write_text("")
    (tmp_path / "in/LICENSE").write_text("terms")
    table = {
        "name": "sample-dist", "version": "1.5", "description": "d", "requires-python": ">=3.11", "license": "Apache-2.0",
        "license-files": ["LICENSE"], "dependencies": ["a==1"], "optional-dependencies": {"x": ["b==2"]},
        "scripts": {"sample": "sample:main"},
    }  # fmt: skip
    tree = tmp_path / "out"
    layer = CodeLayer("code", ("src/sample",), "sample")
    project.lay_out(tmp_path / "in", table, layer, tree)
    assert sorted(path.name for path in (tree / SITE / "sample").iterdir()) == ["__init__.py", "py.typed"]
    script = tree / "usr/local/bin/sample"
    assert script.read_text().startswith("#!/usr/bin/python3.13 -I")
    environment = dict(os.environ, PYTHONPATH=str(tree / SITE))
    run = subprocess.run([sys.executable, str(script)], env=environment, check=False)
    assert run.returncode == 7
    probe = (
        "import importlib.metadata as m; print(m.version('sample-dist'), *m.distribution('sample-dist').entry_points)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", probe], env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert shown.startswith("1.5 ")
    assert "sample:main" in shown


def test_code_layer_key_follows_content_and_name(tmp_path: Path) -> None:
    layer = CodeLayer("code", ("p",), "p")
    (tmp_path / "p").mkdir()
    (tmp_path / "p/a.py").write_text("1")
    first = project.digest(tmp_path, layer)
    (tmp_path / "p/a.py").touch()
    assert project.digest(tmp_path, layer) == first
    (tmp_path / "p/a.py").write_text("2")
    second = project.digest(tmp_path, layer)
    (tmp_path / "p/a.py").rename(tmp_path / "p/b.py")
    assert len({key_of(one) for one in (first, second, project.digest(tmp_path, layer))}) == 3
    with pytest.raises(ImageError, match="absent"):
        project.digest(tmp_path, CodeLayer("code", ("absent",), "p"))


def test_a_failed_part_leaves_nothing_and_a_finished_one_is_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise ImageError("no")

    with pytest.raises(ImageError):
        cache.make("layers", "k", fail)
    assert cache.find("layers", "k") is None
    assert not list((tmp_path / "layers").iterdir())
    made = cache.make("layers", "k", lambda folder: (folder / "whole").touch())
    assert cache.make("layers", "k", fail) == made
    assert (made / "whole").exists()


def test_sweep_removes_only_what_is_long_unused(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for key in ("old", "new"):
        cache.make("layers", key, lambda folder: None)
    used = (tmp_path / "layers/new").stat().st_mtime
    os.utime(tmp_path / "layers/old", (used - 32 * 86_400,) * 2)
    cache.sweep(("layers",))
    assert [path.name for path in (tmp_path / "layers").iterdir()] == ["new"]


def test_inspection_finds_what_must_not_be(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/dash").touch()
    (tmp_path / "usr/bin/tool").touch()
    (tmp_path / "usr/bin/tool").chmod(0o4755)
    (tmp_path / "private").touch(mode=0o600)
    (tmp_path / "lost").symlink_to("/nowhere")
    (tmp_path / "held").symlink_to("/usr/bin/dash")
    assert shells(tmp_path) == ["usr/bin/dash"]
    assert {line.split()[0] for line in bad_modes(tmp_path)} == {"usr/bin/tool", "private"}
    assert [line.split()[0] for line in dangling(tmp_path)] == ["lost"]
