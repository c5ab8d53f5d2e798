# SPDX-License-Identifier: Apache-2.0
"""Time a sync against a bare loop that reads the same files and writes the same files.

Run ``python -m tests.benchmarks.sync_time [IMAGES] [PAIRS]``: prints one line a pair and the
median ratio. Both run as a process of their own, from an empty store, in turn.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.many import make_repository

# The loop knows nothing: it re-reads links, manifests, configs and layer descriptions, and copies
# the tree that the sync wrote, file by file.
_LOOP = """
import json, os, sys
repository, model, target = sys.argv[1:]
seen = set()
for directory, names, files in os.walk(repository + "/registry.example.org"):
    for name in [*names, *files]:
        link = os.path.join(directory, name)
        if not os.path.islink(link):
            continue
        image = os.path.basename(os.readlink(link))
        path = repository + "/.metadata" + link[len(repository):] + "/manifest.json"
        with open(path, "rb") as file:
            manifest = json.loads(file.read())
        store = repository + "/podmanStore/overlay-images/" + image
        with os.scandir(store) as found:
            for entry in found:
                with open(entry.path, "rb") as file:
                    json.loads(file.read())
        for layer in manifest["Layers"]:
            digest = layer["Digest"][7:]
            if digest not in seen:
                seen.add(digest)
                place = repository + "/.layers/" + digest[:2] + "/" + digest
                with open(place + "/.metadata/layers.json", "rb") as file:
                    json.loads(file.read())
def copy(source, target):
    os.mkdir(target)
    with os.scandir(source) as found:
        for entry in found:
            there = target + "/" + entry.name
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), there)
            elif entry.is_dir():
                copy(entry.path, there)
            elif entry.is_file():
                with open(entry.path, "rb") as file, open(there, "wb") as new:
                    new.write(file.read())
            else:
                os.mknod(there, entry.stat(follow_symlinks=False).st_mode)
copy(model, target)
"""


def _timed(argv: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(images: int, pairs: int) -> list[tuple[float, float]]:
    """Return (seconds of the sync, seconds of the bare loop) for each pair."""
    times = []
    with tempfile.TemporaryDirectory(prefix="sync-time-") as scratch:
        repository = make_repository(Path(scratch, "repository"), images)
        for pair in range(pairs + 1):
            store, copied = f"{scratch}/store{pair}", f"{scratch}/copy{pair}"
            sync = _timed(
                [sys.executable, "-m", "podman_cvmfs", "sync", "--offline"]
                + ["--repository", str(repository), "--store", store, "--cache", scratch]
            )
            loop = _timed([sys.executable, "-c", _LOOP, str(repository), store, copied])
            if pair > 0:  # the first one warms the kernel's caches up
                times.append((sync, loop))
    return times


def median_ratio(times: list[tuple[float, float]]) -> float:
    """The median of sync / loop."""
    return statistics.median(sync / loop for sync, loop in times)


def main() -> None:
    """Measure as the command line says and print the result."""
    images, pairs = (int(text) for text in (sys.argv[1:] + ["1000", "5"][len(sys.argv) - 1 :]))
    times = measure(images, pairs)
    for sync, loop in times:
        print(f"{images} images: sync {sync:.2f} s, bare loop {loop:.2f} s, {sync / loop:.2f}")
    print(f"median ratio {median_ratio(times):.2f}")


if __name__ == "__main__":
    main()
