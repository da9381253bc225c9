"""The project's own code as a layer: packages, the distribution's metadata, and a start script that needs no shell."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kind.images.errors import ImageError
from kind.images.model import PYTHON, SITE, CodeLayer

_NEVER = ("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")


def sources(root: Path, layer: CodeLayer) -> Iterator[tuple[str, Path]]:
    """Yield path inside the site folder and file of everything in a layer's packages, in a fixed order.

    Raises:
        ImageError: a package is missing.
    """
    for package in layer.packages:
        folder = root / package
        if not folder.is_dir():
            raise ImageError(f"{package}: no such package")
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder.parent)
            if path.is_file() and path.suffix != ".pyc" and not any(part in _NEVER for part in inside.parts):
                yield inside.as_posix(), path


def digest(root: Path, layer: CodeLayer) -> list[str]:
    """Describe the content of a layer's packages: one line per file, its hash and its name."""
    return [f"{hashlib.sha256(path.read_bytes()).hexdigest()} {name}" for name, path in sources(root, layer)]


def _metadata(project: dict[str, Any]) -> str:
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {project['name']}",
        f"Version: {project['version']}",
        f"Summary: {project['description']}",
        f"Requires-Python: {project['requires-python']}",
        f"License-Expression: {project['license']}",
        *(f"License-File: {name}" for name in project["license-files"]),
        *(f"Requires-Dist: {requirement}" for requirement in project["dependencies"]),
    ]
    for extra, wanted in project["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {requirement}; extra == "{extra}"' for requirement in wanted]
    return "\n".join(lines) + "\n"


def start_script(entry_point: str) -> str:
    """Return a program that calls an entry point (``module:function``) in an isolated interpreter.

    Isolated (-I): neither the working folder, nor a user's folder, nor PYTHON* variables can bring in other code.
    """
    module, _, function = entry_point.partition(":")
    return (
        f"#!/usr/bin/python{PYTHON} -IBu\n"
        f"import sys\n\nfrom {module} import {function}\n\n"
        f'if __name__ == "__main__":\n    sys.exit({function}())\n'
    )


def lay_out(root: Path, project: dict[str, Any], layer: CodeLayer, tree: Path) -> None:
    """Fill a folder with a layer's packages, metadata and start script.

    Raises:
        ImageError: the project has no such script or package.
    """
    site = tree / SITE
    for name, path in sources(root, layer):
        target = site / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    entry_point = project["scripts"].get(layer.script)
    if entry_point is None:
        raise ImageError(f"pyproject.toml has no script {layer.script}")
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    (info / "licenses").mkdir(parents=True)
    (info / "METADATA").write_text(_metadata(project), encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[console_scripts]\n{layer.script} = {entry_point}\n", encoding="utf-8")
    for name in project["license-files"]:
        shutil.copyfile(root / name, info / "licenses" / Path(name).name)
    script = tree / "usr/local/bin" / layer.script
    script.parent.mkdir(parents=True)
    script.write_text(start_script(entry_point), encoding="utf-8")
    script.chmod(0o755)
