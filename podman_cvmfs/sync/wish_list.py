# SPDX-License-Identifier: Apache-2.0
"""Lists of the images a site wants: DUCC's recipes and OSG's plain list.

A recipe (cvmfs 2.14 ``ducc/lib/recipe.go``) is a YAML mapping: ``version`` (1), ``user``,
``cvmfs_repo``, ``output_format`` (texts), ``input``, a sequence of image specs, and
``ignoreErrors``, which only a publisher uses. As in DUCC a text may be empty or a number.
OSG's list (``docker_images.txt`` of cvmfs-singularity-sync) has one spec a line; empty lines and
lines that begin with ``#`` say nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import yaml

from podman_cvmfs.cache.list_copies import read_copy
from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.util.foreign_file import read_bounded
from podman_cvmfs.util.web_address import is_web_address, shown_address

#: Far above any real list, in bytes; more is refused before it is parsed.
MAX_WISH_LIST = 8 * 1024 * 1024

_RECIPE_SUFFIXES = (".yaml", ".yml")
_TEXT_KEYS = ("user", "cvmfs_repo", "output_format")
_KEYS = ("version", *_TEXT_KEYS, "input", "ignoreErrors")


@dataclass(frozen=True)
class WishList:
    """The content of one list. Messages name its file and line."""

    #: The wishes, in the list's order and each once.
    specs: tuple[ImageSpec, ...]
    #: Entries that aren't images. Like DUCC, a sync uses the others.
    problems: tuple[InputError, ...] = ()
    #: Warnings about the list.
    warnings: tuple[str, ...] = ()


def read_wish_list(place: str, cache: str) -> WishList:
    """Read the list at ``place``: a recipe if it is called ``*.yaml``, else a plain list.

    Of a list at a web server the last good copy in the directory ``cache`` is read; a sync fetches
    it. Raises InputError if it can't be read, isn't such a list, or names no image: a sync would
    then empty the store. Only a recipe whose ``input`` is ``[]`` means that.
    """
    if is_web_address(place):
        copy, shown = read_copy(cache, place), shown_address(place)
        if copy is None:
            raise InputError(
                f"the wish list {printable(shown)} has never been fetched",
                "run: podman-cvmfs sync",
            )
        return judged_list(copy.data, shown)
    try:
        # The list may be another user's.
        data = read_bounded(place, MAX_WISH_LIST)
    except OSError as err:
        raise InputError(f"can't read the wish list {printable(place)}: {err.strerror}") from None
    return judged_list(data, place)


def judged_list(data: bytes, source: str) -> WishList:
    """Read the list ``data``. Its name, at the end of ``source``, tells its form. Messages call it
    ``source``. Raises InputError as ``read_wish_list`` does."""
    is_recipe = source.lower().endswith(_RECIPE_SUFFIXES)
    found = parse_recipe(data, source) if is_recipe else parse_plain_list(data, source)
    if not found.specs and (found.problems or not is_recipe):
        raise InputError(
            f"the wish list {printable(source)} names no image",
            found.problems[0].message
            if is_recipe
            else "a recipe's name ends in .yaml; a recipe with 'input: []' wants no image",
        )
    return found


def parse_plain_list(data: bytes, source: str) -> WishList:
    """Read OSG's form; ``source`` is what messages call it. Raises InputError."""
    text = _decoded(data, source)
    lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    entries = ((number, line) for number, line in lines if line and not line.startswith("#"))
    return _collected(entries, source)


def parse_recipe(data: bytes, source: str) -> WishList:
    """Read DUCC's form; ``source`` is what messages call it. Raises InputError."""
    fields, warnings = _fields(_root(_decoded(data, source), source), source)
    version = fields.get("version")
    if version is None:
        warnings.append(f"{printable(source)}: no version given, read as version 1")
    elif not isinstance(version, yaml.ScalarNode) or version.value.strip() != "1":
        raise _wrong(source, version, "the version of a recipe must be 1")
    for key in _TEXT_KEYS:
        if key in fields and not isinstance(fields[key], yaml.ScalarNode):
            raise _wrong(source, fields[key], f"{key} must be a text, not {_kind(fields[key])}")
    wishes = fields.get("input")
    if wishes is None:
        raise InputError(f"{printable(source)}: not a recipe: it has no input, a list of images")
    if not isinstance(wishes, yaml.SequenceNode):
        raise _wrong(source, wishes, f"input must be a list of images, not {_kind(wishes)}")
    problems: list[InputError] = []
    found = _collected(_texts(wishes.value, source, problems), source)
    return WishList(found.specs, (*problems, *found.problems), tuple(warnings))


def _decoded(data: bytes, source: str) -> str:
    if len(data) > MAX_WISH_LIST:
        raise InputError(f"{printable(source)}: longer than {MAX_WISH_LIST} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        raise InputError(f"{printable(source)}:{line}: not UTF-8") from None


def _collected(entries: Iterable[tuple[int, str]], source: str) -> WishList:
    """Parse entries (line, text); the first of equal wishes stays."""
    specs: dict[ImageSpec, None] = {}
    problems = []
    for line, text in entries:
        try:
            spec = ImageSpec.parse(text)
        except InputError as err:
            message = f"{printable(source)}:{line}: {err.message}"
            problems.append(InputError(message, err.hint))
            continue
        specs.setdefault(spec)
    return WishList(tuple(specs), tuple(problems))


# ---------------------------------------------------------------------- YAML


def _root(text: str, source: str) -> yaml.MappingNode:
    """The document as nodes, which know their lines.

    Aliases stay references to one node, so they can't make a document grow. The loader is the one
    in Python: on deep nesting libyaml's overflows the stack, but this one raises RecursionError.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError:
        raise InputError(f"{printable(source)}: not a recipe: nested too deeply") from None
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        where = f":{mark.line + 1}" if mark is not None else ""
        reason = printable(str(getattr(err, "problem", None) or "it holds control characters"))
        raise InputError(f"{printable(source)}{where}: not valid YAML: {reason}") from None
    if not isinstance(node, yaml.MappingNode):
        found = "an empty document" if node is None else _kind(node)
        raise InputError(f"{printable(source)}: a recipe must be a mapping, not {found}")
    return node


def _fields(root: yaml.MappingNode, source: str) -> tuple[dict[str, yaml.Node], list[str]]:
    fields: dict[str, yaml.Node] = {}
    warnings = []
    for key, value in root.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else None
        if name not in _KEYS:
            shown = _kind(key) if name is None else repr(printable(name)[:60])
            where = f"{printable(source)}:{key.start_mark.line + 1}"
            warnings.append(f"{where}: unknown key {shown} ignored")
        elif name in fields:
            raise _wrong(source, key, f"{name} is given twice")
        else:
            fields[name] = value
    return fields, warnings


def _texts(
    nodes: Iterable[yaml.Node], source: str, problems: list[InputError]
) -> Iterator[tuple[int, str]]:
    """Line and text of each node; those that are no texts go to ``problems``."""
    for node in nodes:
        try:
            text = _text(node, source, "an image must be a text")
        except InputError as err:
            problems.append(err)
        else:
            yield node.start_mark.line + 1, text


def _text(node: yaml.Node, source: str, demand: str) -> str:
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str":
        value = node.value
        assert isinstance(value, str)
        return value
    raise _wrong(source, node, f"{demand}, not {_kind(node)}")


def _kind(node: yaml.Node) -> str:
    kinds = {"map": "a mapping", "seq": "a list", "str": "a text", "null": "nothing"}
    kinds.update({"int": "a number", "float": "a number", "bool": "a truth value"})
    return kinds.get(node.tag.rpartition(":")[2], "something else")


def _wrong(source: str, node: yaml.Node, problem: str) -> InputError:
    return InputError(f"{printable(source)}:{node.start_mark.line + 1}: {problem}")
