# SPDX-License-Identifier: Apache-2.0
"""Read the JSON of a generation as far as possible, and note every fault."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from podman_cvmfs.errors import InputError
from podman_cvmfs.names.reference import parse_repository_path
from podman_cvmfs.oci.documents import parse_json
from podman_cvmfs.store.layout import FORMAT, KNOWN_FORMATS, STATE, SUMS, sums
from podman_cvmfs.store.records import StoreContent
from podman_cvmfs.verify.inspection import Inspection
from podman_cvmfs.verify.record_reader import IMAGES_PATH, LAYERS_PATH, RecordReader

_NONE: dict[str, Any] = {}


@dataclass
class Documents:
    """The content of a generation's JSON, as far as it can be understood."""

    content: StoreContent = field(default_factory=StoreContent)
    #: Whether all of it is unchanged since it was written.
    intact: bool = False
    #: The files that hold JSON.
    read: frozenset[str] = frozenset()
    #: All texts that may be names of images, wherever they are.
    names: frozenset[str] = frozenset()


def read_documents(look: Inspection, generation: str) -> Documents:
    """Read the JSON files of ``generation``, a directory in the store."""
    raw = {}
    for name in (STATE, LAYERS_PATH, IMAGES_PATH):
        data = look.read(f"{generation}/{name}")
        if data is not None:
            raw[name] = data
    intact = _check_sums(look, generation, raw)
    parsed: dict[str, Any] = {}
    for name, kind in ((STATE, dict), (LAYERS_PATH, list), (IMAGES_PATH, list)):
        value = _parse(look, f"{generation}/{name}", raw.get(name), kind)
        if value is not None:
            parsed[name] = value
    state = parsed.get(STATE, _NONE)
    reader = RecordReader(look, generation, state, STATE in parsed)
    layers = reader.layers(parsed.get(LAYERS_PATH, []))
    images, names = reader.images(parsed.get(IMAGES_PATH, []))
    content = StoreContent(
        policy=reader.policy(),
        images=images,
        layers=layers,
        names=names,
        retired_entries=reader.retired(),
    )
    found = frozenset(_names(parsed.get(IMAGES_PATH, []), state.get("images")))
    return Documents(content, intact and len(parsed) == 3, frozenset(parsed), found)


def _names(records: list[Any], ours: object) -> Iterator[str]:
    """Everything in the place of a name, in podman's spelling."""
    lists = [record.get("names") for record in records if isinstance(record, dict)]
    for name in itertools.chain.from_iterable(each for each in lists if isinstance(each, list)):
        if isinstance(name, str):
            yield name
    images = ours.values() if isinstance(ours, dict) else ()
    lists = [image.get("published") for image in images if isinstance(image, dict)]
    for path in itertools.chain.from_iterable(each for each in lists if isinstance(each, list)):
        with contextlib.suppress(InputError, TypeError, AttributeError):
            yield str(parse_repository_path(path).canonical)


def _check_sums(look: Inspection, generation: str, raw: Mapping[str, bytes]) -> bool:
    recorded = look.read(f"{generation}/{SUMS}")
    if recorded is None:
        return False
    if len(raw) == 3 and recorded == sums(raw):
        return True
    lines = recorded.splitlines(keepends=True)
    wrong = [name for name in raw if sums({name: raw[name]}) not in lines]
    for name in wrong:
        look.error(f"{generation}/{name}", f"has been changed: {SUMS} has another checksum")
    if not wrong and len(raw) == 3:
        look.error(f"{generation}/{SUMS}", "has been changed")
    return False


def _parse(look: Inspection, path: str, data: bytes | None, kind: type[Any]) -> Any:
    if data is None:
        return None
    try:
        value = parse_json(data, "the file")
    except InputError as err:
        look.error(path, err.message)
        return None
    if not isinstance(value, kind):
        look.error(path, "holds the wrong kind of JSON")
        return None
    if isinstance(value, dict) and value.get("format") not in KNOWN_FORMATS:
        found = str(value.get("format"))[:20]
        look.error(path, f"has the format {found}, but this version knows {FORMAT}")
        return None
    return value
