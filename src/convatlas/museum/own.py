"""The page on which an exported network sees a person's own images: the artefact, and ONNX Runtime for browsers."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

from convatlas.deployment.manifest import MANIFEST, Manifest, RuntimeName
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback, cache_folder, download, read
from convatlas.files.download import has_checksum

PACKAGE = "onnxruntime-web-1.30.0.tgz"
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/{PACKAGE}"
CHECKSUM = (
    "sha512:ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
MEMBERS = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""What a page loads of it."""
MAX_BYTES = 200_000_000
"""Of a file that a page loads."""


@dataclass(frozen=True, kw_only=True)
class OwnImages:
    """What the page shows."""

    about: dict[str, object]
    """For its template."""
    files: dict[str, bytes]
    """By their paths in the museum."""


def own_images(artefact: Path, package: Path | None, progress: ProgressCallback = SILENT) -> OwnImages:
    """
    Args:
        package: the npm package `onnxruntime-web` as a file; None: it is downloaded, once.

    Raises:
        UserError: there is no such artefact, or a browser cannot run it; or the package cannot be had.
    """
    manifest = Manifest.read(artefact)
    manifest.check_files(artefact)
    names = (MANIFEST, manifest.network, manifest.entrance)
    largest = max((artefact / name).stat().st_size for name in names)
    wrong = (
        f"it is for {manifest.runtime.label}; convatlas export MODEL --to onnx makes one that can"
        if manifest.runtime is not RuntimeName.ONNX
        else f"a file of {largest:,} bytes is too large for a page, which loads {MAX_BYTES:,}; take a smaller network"
        if largest > MAX_BYTES
        else ""
    )
    if wrong:
        raise UserError(f"{artefact} cannot see images in the museum: {wrong}")
    files = {f"own/{name}": read(artefact / name, MAX_BYTES) for name in names} | runtime_files(package, progress)
    card = manifest.card
    about: dict[str, object] = {
        "name": card.variant,
        "params": card.params,
        "data": card.provenance.data,
        "num_classes": len(card.classes),
        "num_loaded": sum(map(len, files.values())),
        "max_bytes": MAX_BYTES,
    }
    return OwnImages(about=about, files=files)


def runtime_files(package: Path | None, progress: ProgressCallback = SILENT) -> dict[str, bytes]:
    """What runs ONNX files in a browser, by their paths in the museum.

    Raises:
        UserError: it cannot be downloaded, or the file is another one.
    """
    if package is None:
        package = download(ADDRESS, cache_folder() / "museum" / PACKAGE, checksum=CHECKSUM, progress=progress)
    if not package.is_file():
        raise UserError(f"there is no file {package}; {ADDRESS} has it")
    # What lies in the cache may have been put there by anybody.
    if not has_checksum(package, CHECKSUM):
        raise UserError(f"{package} is not {PACKAGE}: its checksum differs; {ADDRESS} has it")
    with tarfile.open(package) as archive:
        members = {name: archive.extractfile(f"package/dist/{name}") for name in MEMBERS}
        return {f"runtime/{name}": member.read() for name, member in members.items() if member is not None}
