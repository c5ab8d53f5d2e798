# SPDX-License-Identifier: Apache-2.0
"""The cache as a file: what goes out comes in, and nothing else does."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podman_cvmfs.cache import archive as cache_archive
from podman_cvmfs.cache.archive import Shipped, export_cache, import_cache
from podman_cvmfs.cache.blobs import BlobCache
from podman_cvmfs.errors import InputError, StoreError
from podman_cvmfs.oci.documents import MAX_DOCUMENT, OCI_CONFIG, OCI_MANIFEST, Digest
from podman_cvmfs.sync.stamp import stamp_path
from tests.support.cli import podman_cvmfs

BLOBS = [b"", b"one", b"x" * 512, b"y" * 5000, b'{"architecture": "amd64"}']


def filled(directory: Path, blobs: Iterable[bytes] = BLOBS) -> BlobCache:
    cache = BlobCache(str(directory))
    for blob in blobs:
        cache.put(blob)
    return cache


def exported(cache: BlobCache) -> bytes:
    output = io.BytesIO()
    export_cache(cache, output)
    return output.getvalue()


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def name_of(data: bytes) -> str:
    digest = Digest.of(data).hex
    return f"sha256/{digest[:2]}/{digest}"


def test_round_trip(tmp_path: Path) -> None:
    archive = exported(filled(tmp_path / "a"))
    done = import_cache(BlobCache(str(tmp_path / "b")), io.BytesIO(archive), "x")
    assert done == Shipped(len(BLOBS), sum(map(len, BLOBS)), len(BLOBS))
    assert files(tmp_path / "a") == files(tmp_path / "b")
    again = import_cache(BlobCache(str(tmp_path / "b")), io.BytesIO(archive), "x")
    assert again.new == 0


def test_equal_caches_give_equal_bytes(tmp_path: Path) -> None:
    one, other = filled(tmp_path / "a"), filled(tmp_path / "b", reversed(BLOBS))
    for path in (tmp_path / "b").rglob("*"):
        os.utime(path, (5, 5))
    assert exported(one) == exported(other)


def test_any_tar_can_read_it(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(exported(filled(tmp_path / "a")))
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path / "out"], check=True)
    assert files(tmp_path / "out") == files(tmp_path / "a")
    with tarfile.open(archive) as tar:
        for member in tar:
            assert (member.uid, member.gid, member.mtime, member.mode) == (0, 0, 0, 0o644)
        assert tar.getnames() == sorted(tar.getnames())


def manifest_of(config: Digest, **annotations: str) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": str(config), "size": 5},
            "layers": [],
            "annotations": annotations,
        }
    ).encode()


def test_manifests_are_known_at_the_other_end(tmp_path: Path) -> None:
    cache, ids = filled(tmp_path / "a"), [Digest(digit * 64) for digit in "123"]
    first, second = (manifest_of(each) for each in ids[:2])
    cache.keep_manifests(ids[0], first, b"index")
    cache.keep_manifests(ids[1], second, None)
    cache.keep_manifest_digests(ids[2], [Digest("4" * 64)])  # its blob is lost
    other = filled(tmp_path / "b", [])
    before = manifest_of(ids[1], known="before")
    other.keep_manifests(ids[1], before, None)
    done = import_cache(other, io.BytesIO(exported(cache)), "x")
    assert done.blobs == done.new == len(BLOBS) + 3
    assert other.manifests(ids[0]) == (first, b"index")
    assert other.manifests(ids[1]) == (before, None)
    assert other.manifest_digests(ids[2]) == ()
    third = BlobCache(str(tmp_path / "c"))
    import_cache(third, io.BytesIO(exported(cache)), "x")
    assert exported(third) == exported(cache)


IMAGE = Digest("1" * 64)
GENUINE, OF_ANOTHER = manifest_of(IMAGE), manifest_of(Digest("2" * 64))
#: From worthless to certain; an ID of OSG's is no config's.
NOTES: list[tuple[str, bytes | None]] = [
    ("lost", None),
    ("no manifest", b"x"),
    ("an index", b'{"manifests": []}'),
    ("of another config", OF_ANOTHER),
    ("genuine", GENUINE),
]


@pytest.mark.parametrize(("new", "data"), NOTES)
@pytest.mark.parametrize(("old", "known"), NOTES)
def test_a_worthless_note_keeps_no_better_one_away(
    tmp_path: Path, old: str, known: bytes | None, new: str, data: bytes | None
) -> None:
    cache = filled(tmp_path / "cache", [])
    text = f"{IMAGE}\n{Digest.of(data or b'lost')}\n".encode()
    archive = note(text) + (b"" if data is None else exported(filled(tmp_path / "a", [data])))
    if data is None:
        archive += END
    if known is None:
        cache.keep_manifest_digests(IMAGE, [Digest.of(b"unknown")])
    else:
        cache.keep_manifests(IMAGE, known, None)
    before = cache.manifest_digests(IMAGE)
    done = import_cache(cache, io.BytesIO(archive), "x")
    worth = {"of another config": 1, "genuine": 2}
    is_better = worth.get(new, 0) > worth.get(old, 0)
    assert done.new_notes == is_better
    assert cache.manifest_digests(IMAGE) == ((Digest.of(data or b""),) if is_better else before)


def test_a_full_disk_changes_no_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, ids = filled(tmp_path / "a"), [Digest(digit * 64) for digit in "123"]
    for each in ids:
        source.keep_manifests(each, manifest_of(each), None)
    cache = filled(tmp_path / "b", [])
    cache.keep_manifest_digests(ids[0], [Digest("4" * 64)])
    before, keep, left = files(tmp_path / "b"), cache.keep_manifest_digests, [2]

    def failing(*arguments: Any) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise StoreError("can't write to the cache: No space left on device")
        keep(*arguments)

    monkeypatch.setattr(cache, "keep_manifest_digests", failing)
    with pytest.raises(StoreError):
        import_cache(cache, io.BytesIO(exported(source)), "x")
    assert files(tmp_path / "b") == before


def test_only_sound_blobs_are_exported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = filled(tmp_path / "a", [b"good", b"bad"])
    (tmp_path / "a" / name_of(b"bad")).write_bytes(b"changed")
    (tmp_path / "a/sha256/.new-123").mkdir()
    (tmp_path / "a" / os.path.dirname(name_of(b"good")) / "note").write_text("x")
    (tmp_path / "a/markers/00").mkdir(parents=True)
    (tmp_path / "a/markers/00" / ("0" * 64)).write_text("{}")
    output = io.BytesIO()
    assert export_cache(cache, output) == Shipped(1, 4, broken=1)
    with tarfile.open(fileobj=io.BytesIO(output.getvalue())) as tar:
        assert tar.getnames() == [name_of(b"good")]
    assert str(Digest.of(b"bad")) in caplog.text


def test_no_cache_is_an_empty_one(tmp_path: Path) -> None:
    archive = exported(BlobCache(str(tmp_path / "none")))
    assert archive == bytes(1024)
    assert import_cache(BlobCache(str(tmp_path / "b")), io.BytesIO(archive), "x") == Shipped()
    assert not (tmp_path / "b").exists() and not (tmp_path / "none").exists()


def test_a_pipe_can_be_imported(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    archive = exported(filled(tmp_path / "a"))
    import_cache(BlobCache(str(tmp_path / "b")), Pipe(archive), "x")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def member(
    name: str, data: bytes = b"", form: Literal[0, 1, 2] = tarfile.USTAR_FORMAT, **more: object
) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    for key, value in more.items():
        setattr(entry, key, value)
    return entry.tobuf(form) + data + bytes(-len(data) % 512)


def patched(fields: dict[int, bytes], name: str = "sha256/ff/ff" + "0" * 62) -> bytes:
    """The header of an empty blob with other fields, by place, and a checksum that is right."""
    header = bytearray(cache_archive._header(Digest(name[-64:]), 0))
    for place, value in {**fields, 148: b" " * 8}.items():
        header[place : place + len(value)] = value
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


GOOD = cache_archive._header(Digest.of(b"one"), 3) + b"one".ljust(512, b"\0")
END = bytes(1024)
NOTE_TEXT = f"sha256:{'a' * 64}\nsha256:{'b' * 64}\n".encode()


def note(text: bytes) -> bytes:
    header = cache_archive._header(Digest.of(text), len(text), "manifests")
    return header + text + bytes(-len(text) % 512)


NOTE, NOTE_OF_NOTHING = note(NOTE_TEXT), note(b"sha256:" + b"a" * 64 + b"\n")


def hostile() -> dict[str, bytes]:
    """Archives that must be refused, each with a good blob in front where one fits."""
    high = "sha256/ff/ff" + "0" * 62
    return {
        "empty": b"",
        "not a tar": b"no tar at all" * 100,
        "cut off in the end": GOOD + bytes(512),
        "cut off in a header": GOOD + GOOD[:100],
        "cut off in data": GOOD[:514],
        "no end": GOOD,
        "goes on after its end": GOOD + bytes(512) + b"x" * 512,
        "wrong digest": GOOD + member(high, b"x") + END,
        "wrong directory": GOOD + member(name_of(b"one").replace("/", "/ff/", 1), b"one") + END,
        "parent": GOOD + member("../../etc/passwd", b"x") + END,
        "parent in a name": GOOD + member("sha256/../" + high, b"x") + END,
        "absolute": GOOD + member("/etc/passwd", b"x") + END,
        "control characters": GOOD + member("\x1b[31m", b"x") + END,
        "symbolic link": GOOD + member(high, type=tarfile.SYMTYPE, linkname="/etc/passwd") + END,
        "hard link": GOOD + member(high, type=tarfile.LNKTYPE, linkname="/etc/passwd") + END,
        "regular with a link": GOOD + member(high, linkname="/etc/passwd") + END,
        "directory": GOOD + member("sha256", type=tarfile.DIRTYPE) + END,
        "device": GOOD + member(high, type=tarfile.CHRTYPE) + END,
        "fifo": GOOD + member(high, type=tarfile.FIFOTYPE) + END,
        "sparse": GOOD + member(high, type=tarfile.GNUTYPE_SPARSE) + END,
        "long name": GOOD + member("x" * 200, b"x", tarfile.GNU_FORMAT) + END,
        "pax": GOOD + member("ü" * 60, b"x", tarfile.PAX_FORMAT) + END,
        "twice": GOOD + GOOD + END,
        "a note that is none": NOTE_OF_NOTHING + END,
        "a note after the blobs": GOOD + NOTE + END,
        "a note by another name": member(f"manifests/ff/ff{'0' * 62}", NOTE_TEXT) + END,
        "markers": GOOD + member("markers/00/" + "0" * 64, b"{}") + END,
        "too large": GOOD + member(high, b"x" * (MAX_DOCUMENT + 1)) + END,
        "junk in the padding": GOOD[:-1] + b"x" + END,
        "a time": GOOD + patched({136: b"00000000005"}) + END,
        "an owner": GOOD + patched({108: b"0000005"}) + END,
        "setuid": GOOD + patched({100: b"0004755"}) + END,
        "a link's target": GOOD + patched({157: b"/etc/passwd"}) + END,
        "a prefix": GOOD + patched({345: b"../.."}) + END,
        "a type": GOOD + patched({156: b"2"}) + END,
        "huge size": GOOD + patched({124: b"\x80" + b"\x7f" * 11}) + END,
        "negative size": GOOD + patched({124: b"\xff" * 12}) + END,
        "signed size": GOOD + patched({124: b"-0000000001"}) + END,
        "wrong digest of nothing": GOOD + patched({}) + END,
        "upper case": GOOD + member("sha256/FF/FF" + "0" * 62) + END,
    }


@pytest.mark.parametrize("what", sorted(hostile()))
def test_hostile_archives_change_nothing(tmp_path: Path, what: str) -> None:
    cache = BlobCache(str(tmp_path / "cache"))
    with pytest.raises(InputError) as caught:
        import_cache(cache, io.BytesIO(hostile()[what]), "x.tar")
    assert caught.value.message.startswith("x.tar: ")
    assert caught.value.message.isprintable()
    assert list(tmp_path.iterdir()) == []


def test_blobs_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = exported(filled(tmp_path / "a"))
    monkeypatch.setattr(cache_archive, "_MAX_BLOBS", len(BLOBS) - 1)
    with pytest.raises(InputError, match="more than 4 blobs"):
        import_cache(BlobCache(str(tmp_path / "b")), io.BytesIO(archive), "x")
    assert not (tmp_path / "b").exists()


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = exported(filled(tmp_path / "a"))
    cache = filled(tmp_path / "b", [b"mine", BLOBS[2]])
    before = files(tmp_path / "b")
    put, left = cache.put, [2]

    def failing(data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise StoreError("can't write to the cache: No space left on device")
        put(data)

    monkeypatch.setattr(cache, "put", failing)
    with pytest.raises(StoreError):
        import_cache(cache, io.BytesIO(archive), "x")
    assert files(tmp_path / "b") == before


def test_a_broken_blob_is_mended(tmp_path: Path) -> None:
    archive = exported(filled(tmp_path / "a"))
    cache = filled(tmp_path / "b")
    (tmp_path / "b" / name_of(b"one")).write_bytes(b"0ne")
    assert import_cache(cache, io.BytesIO(archive), "x").new == 1
    assert cache.get(Digest.of(b"one")) == b"one"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=1500), max_size=6))
def test_every_cache_round_trips(
    tmp_path_factory: pytest.TempPathFactory, blobs: list[bytes]
) -> None:
    top = tmp_path_factory.mktemp("c")
    archive = exported(filled(top / "a", blobs))
    done = import_cache(BlobCache(str(top / "b")), io.BytesIO(archive), "x")
    assert done.new == len(set(blobs))
    assert exported(BlobCache(str(top / "b"))) == archive


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_change_of_a_byte_passes(tmp_path: Path, data: st.DataObject) -> None:
    archive = bytearray(NOTE + GOOD + END)
    place = data.draw(st.integers(0, len(archive) - 1))
    archive[place] ^= data.draw(st.integers(1, 255))
    cache = BlobCache(str(tmp_path / "cache"))
    try:
        import_cache(cache, io.BytesIO(bytes(archive)), "x")
    except InputError:
        assert not (tmp_path / "cache").exists()
    else:
        raise AssertionError(f"byte {place} may be changed")


# ---------------------------------------------------------------------- the command


def test_command(tmp_path: Path) -> None:
    filled(tmp_path / "a")
    archive = tmp_path / "cache.tar"
    done = podman_cvmfs("cache", "export", archive, "--cache", tmp_path / "a", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"blobs": 5, "bytes": sum(map(len, BLOBS)), "broken": 0}
    assert archive.stat().st_mode & 0o777 == 0o644
    done = podman_cvmfs("cache", "import", archive, "--cache", tmp_path / "b", "--format", "json")
    assert json.loads(done.stdout) == {"blobs": 5, "bytes": sum(map(len, BLOBS)), "new": 5}
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_notes_alone_wake_the_next_sync_too(tmp_path: Path) -> None:
    cache, other = filled(tmp_path / "a"), filled(tmp_path / "b", [*BLOBS, GENUINE])
    cache.keep_manifests(IMAGE, GENUINE, None)
    (tmp_path / "x.tar").write_bytes(exported(cache))
    stamp = Path(stamp_path(other.directory, "/store", "/repository"))
    for is_there in (False, True):
        stamp.parent.mkdir(exist_ok=True)
        stamp.touch()
        done = podman_cvmfs("cache", "import", tmp_path / "x.tar", "--cache", other.directory)
        assert done.returncode == 0, done.stderr
        # The second time there is nothing to be looked for.
        assert stamp.exists() == is_there


def test_command_in_a_pipe(tmp_path: Path) -> None:
    filled(tmp_path / "a")
    command = [sys.executable, "-m", "podman_cvmfs", "cache"]
    line = '"$@" export - --cache a | "$@" import - --cache b'
    subprocess.run(
        ["bash", "-o", "pipefail", "-c", line, "bash", *command], check=True, cwd=tmp_path
    )
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_command_errors(tmp_path: Path) -> None:
    filled(tmp_path / "a")
    archive = tmp_path / "x.tar"
    archive.write_bytes(b"not a tar" * 100)
    done = podman_cvmfs("cache", "import", archive, "--cache", tmp_path / "b")
    assert done.returncode == 3
    assert f"{archive}: not an exported cache" in done.stderr
    assert not (tmp_path / "b").exists()
    done = podman_cvmfs("cache", "import", tmp_path / "none.tar", "--cache", tmp_path / "b")
    assert (done.returncode, "No such file" in done.stderr) == (3, True)
    done = podman_cvmfs("cache", "export", tmp_path / "no/x.tar", "--cache", tmp_path / "a")
    assert (done.returncode, "can't write" in done.stderr) == (3, True)
    done = podman_cvmfs("cache", "export", "-", "--format", "json", "--cache", tmp_path / "a")
    assert done.returncode == 2
    # A cache that can't be read fails the export and leaves the file as it was.
    (tmp_path / "f/sha256").parent.mkdir()
    (tmp_path / "f/sha256").write_text("a file")
    done = podman_cvmfs("cache", "export", archive, "--cache", tmp_path / "f")
    assert (done.returncode, "can't read the cache" in done.stderr) == (5, True)
    assert archive.read_bytes() == b"not a tar" * 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "f", "x.tar"]


def test_two_notes_of_an_image_are_both_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is worth more than the first, and for a third the disk is full."""

    def manifest(config: bytes) -> bytes:
        own = {"mediaType": OCI_CONFIG, "digest": str(Digest.of(config)), "size": len(config)}
        return json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": own, "layers": []}
        ).encode()

    def notes(number: int) -> list[tuple[bytes, bytes]]:
        image, third = b"image %d" % number, b"third %d" % number
        pairs = [(image, manifest(b"")), (image, manifest(image)), (third, manifest(third))]
        return [
            (f"{Digest.of(config)}\n{Digest.of(document)}\n".encode(), document)
            for config, document in pairs
        ]

    # They come in the order of their digests.
    made = next(
        each
        for each in map(notes, range(1000))
        if each == sorted(each, key=lambda pair: Digest.of(pair[0]).hex)
    )
    archive = b""
    for data, kind in [(note, "manifests") for note, _ in made] + [
        (blob, "sha256") for _, blob in sorted(made, key=lambda pair: Digest.of(pair[1]).hex)
    ]:
        header = cache_archive._header(Digest.of(data), len(data), kind)
        archive += header + data + bytes(-len(data) % 512)
    cache = filled(tmp_path, [])
    image = Digest.parse(made[0][0].decode().splitlines()[0])
    cache.keep_manifest_digests(image, [Digest.of(b"gone")])
    before = files(tmp_path)
    keep = BlobCache.keep_manifest_digests

    def full(self: BlobCache, image_id: Digest, digests: Any) -> None:
        if image_id != image:
            raise StoreError("full")
        keep(self, image_id, digests)

    monkeypatch.setattr(BlobCache, "keep_manifest_digests", full)
    with pytest.raises(StoreError):
        import_cache(cache, io.BytesIO(archive + bytes(1024)), "x")
    assert files(tmp_path) == before
