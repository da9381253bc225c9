"""Makes layers and images, each part from the cache where all that goes into it is unchanged."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import tempfile
from collections.abc import Iterable
from pathlib import Path

from kind.images import aptsources, compiler, debian, layertar, paths, project, wheels
from kind.images.archive import ARCHITECTURES, Built, configuration
from kind.images.cache import Cache, key_of
from kind.images.errors import ImageError
from kind.images.model import SITE, SUITE, CodeLayer, DebianLayer, Layer, WheelLayer
from kind.images.progress import step
from kind.images.recipe import IMAGES, LAYERS
from kind.images.run import need

_INTERPRETER = ("debian", "python")
# Whose source decides what a layer of a kind holds: an edit makes those layers anew.
_MAKERS = {
    DebianLayer: (debian, paths, compiler, layertar),
    WheelLayer: (wheels, paths, compiler, layertar),
    CodeLayer: (project, compiler, layertar),
}


def _source_digest(kind: type[Layer]) -> list[str]:
    files = (Path(str(module.__file__)) for module in _MAKERS[kind])
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


class Builder:
    """Builds from one checkout into one cache. Hold the cache's lock while using it."""

    def __init__(self, root: Path, cache: Cache, mirror: str | None = None) -> None:
        if platform.machine() not in ARCHITECTURES:
            raise ImageError(f"no images for the architecture {platform.machine()}")
        self._root = root
        self._cache = cache
        self._mirror = mirror
        self._project = wheels.read_project(root)
        self._keys: dict[str, str] = {}
        self._digests: dict[str, list[str]] = {}
        self._pool_folder: Path | None = None

    def _pool_packages(self) -> list[str]:
        # One pool for all layers, so that no image mixes two states of the archive.
        layers = (layer for layer in LAYERS.values() if isinstance(layer, DebianLayer))
        return sorted({package for layer in layers for package in layer.packages})

    def _pool_key(self) -> str:
        return key_of(self._pool_packages(), SUITE, platform.machine())

    def refresh(self) -> None:
        """Forget the Debian packages, so that the next layer is made from the archive's state of then."""
        self._cache.forget("pools", self._pool_key())

    def _pool(self) -> Path:
        def fill(folder: Path) -> None:
            need(debian.NEEDS)
            sources = aptsources.mirrors(SUITE, self._mirror)
            with step(f"fetch {len(self._pool_packages())} packages of Debian {SUITE}"):
                debian.fetch(self._pool_packages(), SUITE, sources, folder)

        if self._pool_folder is None:
            self._pool_folder = self._cache.make("pools", self._pool_key(), fill)
        return self._pool_folder

    def key(self, name: str) -> str:
        """Return the hash of everything that decides a layer's bytes."""
        if name not in self._keys:
            layer = LAYERS[name]
            self._keys[name] = key_of(
                dataclasses.asdict(layer), _source_digest(type(layer)), platform.machine(), *self._inputs(layer)
            )
        return self._keys[name]

    def _inputs(self, layer: Layer) -> list[object]:
        if isinstance(layer, DebianLayer):
            return [debian.fingerprint(self._pool(), layer.packages), *(self.key("debian") for _ in layer.compile)]
        interpreter = [self.key(name) for name in _INTERPRETER]
        if isinstance(layer, WheelLayer):
            constraints = (self._root / "constraints.txt").read_text(encoding="utf-8")
            below = self.key(layer.below) if layer.below else ""
            return [interpreter, below, wheels.requirements(self._project, layer.extras), wheels.pins(constraints)]
        self._digests[layer.name] = project.digest(self._root, layer)
        return [interpreter, self._digests[layer.name], self._project]

    def layer(self, name: str) -> layertar.Blob:
        """Return a finished layer, made now if the cache has none."""

        def fill(folder: Path) -> None:
            with step(f"layer {name}"), tempfile.TemporaryDirectory(prefix="layer-", dir=folder.parent) as work:
                tree = Path(work, "root")
                tree.mkdir()
                self._lay_out(LAYERS[name], tree)
                blob = layertar.write_layer(tree, folder / "layer.tar")
                (folder / "blob.json").write_text(
                    json.dumps({"sha256": blob.sha256, "size": blob.size}), encoding="ascii"
                )

        folder = self._cache.make("layers", self.key(name), fill)
        facts = json.loads((folder / "blob.json").read_text(encoding="ascii"))
        return layertar.Blob(folder / "layer.tar", facts["sha256"], facts["size"])

    def _lay_out(self, layer: Layer, tree: Path) -> None:
        if isinstance(layer, DebianLayer):
            debian.lay_out(layer, self._pool(), tree)
            if layer.compile:
                compiler.compile_modules((tree, self.tree("debian")), tree, layer.compile)
            return
        if isinstance(layer, WheelLayer):
            need(wheels.NEEDS)
            site = tree / SITE
            site.mkdir(parents=True)
            wheels.install(wheels.requirements(self._project, layer.extras), self._root / "constraints.txt", site)
            below = layertar.names(self.layer(layer.below).path) if layer.below else set()
            wheels.trim(site, without=(name.removeprefix(f"{SITE}/") for name in below))
        else:
            before = self._digests[layer.name]
            project.lay_out(self._root, self._project, layer, tree)
            if project.digest(self._root, layer) != before:
                # The key in the cache would promise what the layer does not hold.
                raise ImageError(f"{', '.join(layer.packages)}: changed while being copied; run again")
        compiler.compile_modules([self.tree(name) for name in _INTERPRETER], tree, (SITE,))

    def tree(self, name: str) -> Path:
        """Return the folder with a layer's unpacked files."""
        return self._cache.make("trees", self.key(name), lambda folder: layertar.unpack(self.layer(name).path, folder))

    def image(self, name: str) -> Built:
        """Build an image.

        Raises:
            ImageError: there is no image of that name, or a layer cannot be made.
        """
        if name not in IMAGES:
            raise ImageError(f"no image {name}; there are {', '.join(IMAGES)}")
        image = IMAGES[name]
        layers = tuple(self.layer(part) for part in image.layers)
        config = configuration(image, layers, self._project["version"], platform.machine())
        return Built(image, layers, config)

    def unpack(self, layers: Iterable[str], target: Path) -> None:
        """Unpack layers over a folder, lowest first."""
        for name in layers:
            layertar.unpack(self.layer(name).path, target)

    def sweep(self) -> None:
        """Remove from the cache what no build has used for a month."""
        self._cache.sweep(("layers", "trees", "pools"))
