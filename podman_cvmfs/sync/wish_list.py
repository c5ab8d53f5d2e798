# SPDX-License-Identifier: Apache-2.0
"""Lists of the images a site wants: DUCC's recipes and OSG's plain list.

A recipe (cvmfs 2.12 ``ducc/lib/recipe.go``) is a YAML mapping: ``version`` (1), ``user``,
``cvmfs_repo``, ``output_format`` (texts) and ``input``, a sequence of image specs. OSG's list
(``docker_images.txt`` of cvmfs-singularity-sync) has one spec a line; empty lines and lines that
begin with ``#`` say nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import yaml

from podman_cvmfs.errors import InputError, printable
from podman_cvmfs.names.spec import ImageSpec
from podman_cvmfs.util.foreign_file import read_bounded

#: Far above any real list, in bytes; more is refused before it is parsed.
MAX_WISH_LIST = 8 * 1024 * 1024

_RECIPE_SUFFIXES = (".yaml", ".yml")
_TEXT_KEYS = ("user", "cvmfs_repo", "output_format")
_KEYS = ("version", *_TEXT_KEYS, "input")


@dataclass(frozen=True)
class WishList:
    """The content of one list. Messages name its file and line."""

    #: The wishes, in the list's order and each once.
    specs: tuple[ImageSpec, ...]
    #: Entries that aren't images. Like DUCC, a sync uses the others.
    problems: tuple[InputError, ...] = ()
    #: Warnings about the list.
    warnings: tuple[str, ...] = ()


def read_wish_list(path: str) -> WishList:
    """Read the list at ``path``: a recipe if it is called ``*.yaml``, else a plain list.

    Raises InputError if it can't be read, isn't such a list, or names no image: a sync would then
    empty the store. Only a recipe whose ``input`` is ``[]`` means that.
    """
    try:
        # The list may be another user's.
        data = read_bounded(path, MAX_WISH_LIST)
    except OSError as err:
        raise InputError(f"can't read the wish list {printable(path)}: {err.strerror}") from None
    is_recipe = path.lower().endswith(_RECIPE_SUFFIXES)
    found = parse_recipe(data, path) if is_recipe else parse_plain_list(data, path)
    if not found.specs and (found.problems or not is_recipe):
        raise InputError(
            f"the wish list {printable(path)} names no image",
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
        if key in fields:
            _text(fields[key], source, f"{key} must be a text")
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
