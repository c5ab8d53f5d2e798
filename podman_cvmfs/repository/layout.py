# SPDX-License-Identifier: Apache-2.0
"""The paths in repositories of unpacked images. No other module contains these names.

All paths are relative to the repository's root. Pure, and it imports nothing: a sync with nothing
to do reads this module.

DUCC's layout (CernVM-FS 2.12, ``ducc/lib``)::

    <registry>/<repository>:<tag>                  link -> ../../.flat/<2>/<config hex>
    .flat/<2>/<config hex>/                        merged root file system
    .layers/<2>/<blob hex>/layerfs/                one layer, unpacked
    .layers/<2>/<blob hex>/.metadata/layers.json   its diff ID and size
    .layers/<2>/<blob hex>/.metadata/origin.json   the images it belongs to
    .metadata/<registry>/<repository>:<tag>/manifest.json
    podmanStore/overlay-images/<config hex>/=<base64 of "sha256:<config hex>">
    podmanStore/overlay-images/<config hex>/manifest    the registry's manifest (since 2.14)

A digest-only image is ``<repository>:sha256:<hex>``; its manifest lies at
``.metadata/<registry>/<repository>/manifest.json``.

Since 2025 DUCC also publishes images for several architectures::

    .multiarch/<architecture>[:<variant>]/<registry>/<repository>:<tag>    link, as above
    .multiarch/<alias>                             link to one of these directories (``aarch64``)
    .metadata/.multiarch/<architecture>[:<variant>]/<registry>/<repository>:<tag>/manifest.json
    <registry>/<repository>:<tag>    link -> ../../.multiarch/$(CVMFS_ARCH:-amd64)/..

The client expands the last one. DUCC writes it for images without an index, too. Such an image has
nothing in ``.multiarch``; only its manifest is there, in the usual place.

Ours, in repositories of either layout; DUCC leaves directories alone that it doesn't know::

    .podman-cvmfs/profiles/<2>/<source ID>    what the image opens when it starts
    .podman-cvmfs/published/<2>/<source ID>   that the image is ours, and may be removed by us

OSG's layout (cvmfs-singularity-sync)::

    <namespace>/<repository>:<tag>        link -> /cvmfs/<itself>/.images/<2>/<62>, absolute
    .images/<2>/<62>/                     merged root file system, a Singularity sandbox
    .images/sha256:<2>/<62>/              the same, of an image that came by an index
"""

from __future__ import annotations

FLAT = ".flat"
LAYERS = ".layers"
METADATA = ".metadata"
MULTIARCH = ".multiarch"
#: DUCC's own image store, in the form of containers/storage.
PODMAN_STORE = "podmanStore"
#: OSG's merged roots.
OSG_ROOTS = ".images"
#: Ours: the start-up profiles of images (``profiles/profile.py``).
PROFILES = ".podman-cvmfs/profiles"
#: Ours: which images we have published (``publish/ownership.py``).
PUBLISHED = ".podman-cvmfs/published"

#: DUCC's directories; OSG's repositories have none of them.
DUCC_PARTS = (LAYERS, METADATA, FLAT)
#: Every repository has one of these in its root. Nothing else has.
PARTS = (*DUCC_PARTS, OSG_ROOTS)
#: The trees with the files that containers see: merged roots before layers, DUCC's before OSG's.
FILE_TREES = (FLAT, LAYERS, OSG_ROOTS)

#: In the directory of a layer.
LAYERFS = "layerfs"
LAYERS_JSON = f"{METADATA}/layers.json"
ORIGIN_JSON = f"{METADATA}/origin.json"
#: Ours, not DUCC's: directories that a layer's files need but the layer doesn't list.
IMPLIED_JSON = f"{METADATA}/implied.json"
#: Ours: the layer's list of files, lines of composefs-dump(5) compressed with zstd.
FILES_DUMP = f"{METADATA}/files.dump.zst"

#: In the directory that describes an image.
MANIFEST = "manifest.json"
#: The same of a registry, byte for byte, in the directory that ``image_directory`` names.
GENUINE_MANIFEST = "manifest"
#: The manifests of images for several architectures lie below this.
MULTIARCH_METADATA = f"{METADATA}/{MULTIARCH}"

#: Each tree of files, and what follows a digest in it: there the files begin.
ROOT_TREES = ((FLAT, ""), (OSG_ROOTS, ""), (LAYERS, f"/{LAYERFS}"))
#: Regular expressions of the directories in which files begin. The groups are the digests: ``blob``
#: of the layer, ``source`` of the config.
LAYER_FILES_PATTERN = r"\.layers/(?P<l>[0-9a-f]{2})/(?P<blob>(?P=l)[0-9a-f]{62})/layerfs"
FLAT_PATTERN = r"\.flat/(?P<f>[0-9a-f]{2})/(?P<source>(?P=f)[0-9a-f]{62})"
OSG_ROOT_PATTERN = r"\.images/(?:sha256:)?[0-9a-f]{2}/[0-9a-f]{62}"


def flat_directory(config: str) -> str:
    """The merged root of the image whose config has this digest, in hexadecimal."""
    return f"{FLAT}/{config[:2]}/{config}"


def layer_directory(blob: str) -> str:
    """The directory of the layer whose compressed blob has this digest, in hexadecimal."""
    return f"{LAYERS}/{blob[:2]}/{blob}"


def osg_root(digest: str) -> str:
    """OSG's merged root with this name, a digest over its layers' digests in hexadecimal."""
    return f"{OSG_ROOTS}/{digest[:2]}/{digest[2:]}"


def osg_root_of_index(index: str) -> str:
    """OSG's merged root of an image that came by the index with this digest, in hexadecimal."""
    return f"{OSG_ROOTS}/sha256:{index[:2]}/{index[2:]}"


def image_directory(config: str) -> str:
    """The directory in DUCC's own image store with the config of this digest, in hexadecimal."""
    return f"{PODMAN_STORE}/overlay-images/{config}"


def profile_file(source: str) -> str:
    """The start-up profile of the image that the repository knows by this ID, in hexadecimal."""
    return f"{PROFILES}/{source[:2]}/{source}"


def published_record(source: str) -> str:
    """The record of the image with this ID, in hexadecimal, that we have published."""
    return f"{PUBLISHED}/{source[:2]}/{source}"


def manifest_file(place: str, path: str) -> str:
    """The manifest of the image at the public link ``path`` in ``place``, a directory of
    ``.multiarch`` or "" for the root."""
    return f"{described_at(place, path)}/{MANIFEST}"


def described_at(place: str, path: str) -> str:
    """The directory that describes the image at the public link ``path`` in ``place``."""
    return "/".join(part for part in (METADATA, place, path) if part)


def architecture_directory(name: str) -> str:
    """The directory with the links of images for the architecture ``name``, with its variant."""
    return f"{MULTIARCH}/{name}"


def is_of_architectures(target: str) -> bool:
    """Whether the link target ``target`` leads to all architectures of an image at once."""
    return target.startswith(f"{MULTIARCH}/")


def holds_no_names(name: str) -> bool:
    """Whether the directory ``name`` in the repository's root holds no public links."""
    return name.startswith(".") or name == PODMAN_STORE


def may_lack(directory: str) -> bool:
    """Whether DUCC makes ``directory``, one above the names, only when it needs it."""
    return (
        directory in (MULTIARCH, METADATA, MULTIARCH_METADATA)
        or directory.rpartition("/")[0] == MULTIARCH_METADATA
    )


def public_path(path: str) -> str:
    """``path`` without the directories above public links: the path of a link, or a part of one; ""
    for these directories themselves."""
    parts = path.split("/")
    if parts[0] == METADATA:
        del parts[0]
    if parts[:1] == [MULTIARCH]:
        del parts[:2]
    return "/".join(parts)
