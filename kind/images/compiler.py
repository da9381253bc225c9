"""Compiles modules ahead of time with the interpreter of the image, run in place from its unpacked layers."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from kind.images.errors import ImageError
from kind.images.model import PYTHON
from kind.images.run import run


def _find(trees: Sequence[Path], name: str) -> Path:
    for tree in trees:
        if (tree / name).exists():
            return tree / name
    raise ImageError(f"no layer holds {name}")


def compile_modules(trees: Sequence[Path], tree: Path, folders: Iterable[str]) -> None:
    """Write the ``.pyc`` of every module below some folders of a tree.

    They are of the unchecked kind (PEP 552): the interpreter compares nothing with the source, and their bytes hold no time.

    Args:
        trees: the unpacked layers with the interpreter and the C library.
        tree: the root below which the folders are.
        folders: relative to the tree; the paths shown in tracebacks are those of the image.

    Raises:
        ImageError: a module does not compile.
    """
    machine = platform.machine()
    interpreter = _find(trees, f"usr/bin/python{PYTHON}")
    loader = next((path for one in trees for path in sorted(one.glob("usr/lib*/**/ld-linux*.so.*"))), None)
    if loader is None:
        raise ImageError("no layer holds the dynamic loader")
    libraries = ":".join(str(one / f"usr/lib/{machine}-linux-gnu") for one in trees)
    argv = [str(loader), "--library-path", libraries, str(interpreter), "-S", "-B", "-m", "compileall", "-q", "-f"]
    # -B: what this run imports must not be written as a side effect, with this machine's paths in it.
    argv += ["--invalidation-mode", "unchecked-hash", "-s", str(tree), "-p", "/"]
    environment = {"PYTHONHOME": str(interpreter.parents[1]), "PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}
    run([*argv, *(str(tree / folder) for folder in folders)], environment)
