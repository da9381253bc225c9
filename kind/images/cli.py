"""The command line: list, build, layer, verify."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kind.images.archive import write_archive
from kind.images.builder import Builder
from kind.images.cache import Cache
from kind.images.errors import ImageError
from kind.images.progress import note
from kind.images.recipe import IMAGES, LAYERS
from kind.images.verify import verify

ROOT = Path(__file__).resolve().parents[2]
_MEGABYTE = 1_000_000


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 kind/images", description="Build container images without a container engine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="show the images and their layers")
    build = commands.add_parser("build", help="build images as docker archives; prints their paths")
    layer = commands.add_parser("layer", help="unpack layers below a folder, one folder each")
    check = commands.add_parser(
        "verify", help="build images and run programs in them as a random user, read-only (root)"
    )
    for command in (build, check):
        command.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(IMAGES)}; all by default")
    build.add_argument("--tag", default="dev", help="tag of the images (default: dev)")
    build.add_argument("--out", type=Path, help="folder for the archives (default: in the cache)")
    build.add_argument("--bundle", action="store_true", help="one archive for all of them, shared layers once")
    layer.add_argument("layers", nargs="+", metavar="LAYER", help=f"of {', '.join(LAYERS)}")
    layer.add_argument("--into", type=Path, required=True, help="folder below which each layer gets its own")
    for command in (build, check, layer):
        command.add_argument("--mirror", help="address of a Debian mirror (default: this machine's own)")
    build.add_argument("--refresh", action="store_true", help="take Debian's packages anew: its security updates")
    return parser


def _list() -> None:
    for image in IMAGES.values():
        print(f"{image.name:16} {image.title}\n{'':16} layers: {' '.join(image.layers)}")


def _build(options: argparse.Namespace, builder: Builder, cache: Cache) -> None:
    if options.refresh:
        builder.refresh()
    images = [builder.image(name) for name in options.targets or IMAGES]
    out: Path = options.out or cache.root / "out"
    groups = {"bundle": images} if options.bundle else {built.image.name: [built] for built in images}
    for built in images:
        note(f"{built.image.reference(options.tag)}  {built.size / _MEGABYTE:.1f} MB  id {built.id[:12]}")
    for name, group in groups.items():
        path = out / f"{name}.tar"
        written = write_archive(path, group, options.tag)
        note(f"{path.name}: {'written' if written else 'unchanged'}")
        print(path)
    builder.sweep()


def _layer(options: argparse.Namespace, builder: Builder) -> None:
    for name in options.layers:
        if name not in LAYERS:
            raise ImageError(f"no layer {name}; there are {', '.join(LAYERS)}")
        target: Path = options.into / name
        target.mkdir(parents=True)
        builder.unpack([name], target)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 1 when it could not be done, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    if options.command == "list":
        _list()
        return 0
    try:
        cache = Cache.default()
        with cache.locked():
            builder = Builder(ROOT, cache, options.mirror)
            if options.command == "build":
                _build(options, builder, cache)
            elif options.command == "layer":
                _layer(options, builder)
            else:
                return 0 if verify(builder, options.targets or list(IMAGES)) else 1
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
