# SPDX-License-Identifier: Apache-2.0
"""The rooms of the package: what lies where, and that imports run one way through them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

_PACKAGE = "podman_cvmfs"
_ROOT = Path(__file__).resolve().parents[2] / _PACKAGE

#: From the bottom to the top: a room imports from those before it, and from nothing else.
ROOMS = (
    "util",  # knows nothing of containers
    "oci",  # the formats
    "names",  # what an image is called
    "podman",  # podman here, and its configuration
    "settings",  # what was decided, and where things are
    "storage_native",  # the real containers/storage, as judge
    "repository",  # what lies in /cvmfs
    "registry",  # what registries have
    "cache",  # what was found out once
    "lists",  # every entry of a layer or an image
    "store",  # the on-disk format
    "resolve",  # an offer -> a complete image
    "plan",  # wanted against present
    "usage",  # who stands on the store's layers
    "profiles",  # what images open when they start
    "sync",  # drives all those
    "publish",  # fills a repository
    "verify",  # examines and mends a store
    "reports",  # answers questions
    "setup",  # makes podman use the store
    "doctor",  # finds what makes podman fail
    "cli",  # parses and prints
)
#: What may lie loose at the top. Every room may import ``errors`` and the package's own version.
_LOOSE = {"ARCHITECTURE.md", "FILES.md", "__init__.py", "__main__.py", "errors.py", "py.typed"}


def _name_of(path: Path) -> str:
    """The module in the file ``path``, from the package on."""
    parts = path.relative_to(_ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path) -> Iterator[str]:
    """The names that the file ``path`` imports from, wherever in it, each as long as it may be."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for each in node.names:
                yield f"{node.module}.{each.name}"
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


@cache
def _modules() -> Mapping[str, frozenset[str]]:
    """Each module of the package, and the modules of the package that it imports."""
    paths = {_name_of(path): path for path in _ROOT.rglob("*.py")}
    return {
        name: frozenset(
            found if found in paths else found.rpartition(".")[0]
            for found in _imported(path)
            if found.partition(".")[0] == _PACKAGE
        )
        for name, path in paths.items()
    }


def _package_of(module: str) -> str:
    is_package = (_ROOT.parent / module.replace(".", "/")).is_dir()
    return module if is_package else module.rpartition(".")[0]


def _circle(graph: Mapping[str, frozenset[str]]) -> str:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as err:
        return " -> ".join(err.args[1])
    return ""


def test_every_module_is_known_and_names_only_what_is_there() -> None:
    graph = _modules()
    assert len(graph) > 150
    assert {found for each in graph.values() for found in each} <= graph.keys()


def test_nothing_lies_loose_at_the_top() -> None:
    loose = {path.name for path in _ROOT.iterdir() if path.is_file()}
    assert loose == _LOOSE
    rooms = {path.name for path in _ROOT.iterdir() if (path / "__init__.py").exists()}
    assert rooms == set(ROOMS)


def test_no_module_imports_one_that_imports_it() -> None:
    assert not _circle(_modules())


def test_no_package_imports_one_that_imports_it() -> None:
    """Packages within rooms count as packages, too."""
    graph: dict[str, set[str]] = {}
    for module, imported in _modules().items():
        package = _package_of(module)
        others = {_package_of(each) for each in imported} - {package, _PACKAGE}
        # ``python -m podman_cvmfs`` is the command line.
        if module != f"{_PACKAGE}.__main__":
            graph.setdefault(package, set()).update(others)
    assert not _circle({package: frozenset(found) for package, found in graph.items()})


@pytest.mark.parametrize("room", ROOMS)
def test_imports_lead_downwards(room: str) -> None:
    below = {f"{_PACKAGE}.{each}" for each in ROOMS[: ROOMS.index(room) + 1]}
    for module, imported in _modules().items():
        if (module + ".").startswith(f"{_PACKAGE}.{room}."):
            for each in imported - {_PACKAGE, f"{_PACKAGE}.errors"}:
                above = ".".join(each.split(".")[:2])
                assert above in below, f"{module} imports {each}"


def test_errors_import_nothing_of_the_package() -> None:
    assert _modules()[f"{_PACKAGE}.errors"] == frozenset()


def test_rooms_hold_no_code_of_their_own() -> None:
    """What a package's ``__init__`` imports is paid for by whoever imports any module of it."""
    # ``storage_native`` alone is used like a library by others: its ``__init__`` is its interface.
    for room in set(ROOMS) - {"storage_native"}:
        for path in (_ROOT / room).rglob("__init__.py"):
            first, *more = ast.parse(path.read_text(encoding="utf-8")).body
            assert isinstance(first, ast.Expr) and not more, path


# ---------------------------------------------------------------------- names

#: What every module that logs calls its logger.
_SAME_EVERYWHERE = {"log"}


def _defined(tree: ast.Module) -> Iterator[str]:
    """The names that a module gives to something at its top, but not to type variables."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "TypeVar":
                continue
            for each in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (name.id for name in ast.walk(each) if isinstance(name, ast.Name))


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _made(tree: ast.Module) -> Iterator[str]:
    """The private names that a module makes anywhere: functions, classes, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


@cache
def _trees() -> Mapping[str, ast.Module]:
    return {
        _name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in _ROOT.rglob("*.py")
    }


def test_no_module_uses_a_private_name_of_another() -> None:
    made = {module: set(filter(_is_private, _made(tree))) for module, tree in _trees().items()}
    anybody = set().union(*made.values())
    for module, tree in _trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                private = [each.name for each in node.names if _is_private(each.name)]
                assert not private, f"{module} imports {private} of {node.module}"
            elif isinstance(node, ast.Attribute) and node.attr in anybody:
                assert node.attr in made[module], f"{module}:{node.lineno}: {ast.unparse(node)}"


def test_a_public_name_means_one_thing_along_imports() -> None:
    """Whoever follows an import doesn't meet another thing of the same name."""
    names = {
        module: {each for each in _defined(tree) if not each.startswith("_")} - _SAME_EVERYWHERE
        for module, tree in _trees().items()
    }
    graph = _modules()
    for module in graph:
        reached: set[str] = set()
        pending = [*graph[module]]
        while pending:
            other = pending.pop()
            if other not in reached:
                reached.add(other)
                pending += graph[other]
        for other in reached - {module}:
            assert not names[module] & names[other], f"{module} and {other}"


def test_a_circle_is_found() -> None:
    assert _circle({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("a")})
    assert not _circle({"a": frozenset("b"), "b": frozenset("c")})


# ---------------------------------------------------------------------- documents


def _documents() -> Iterator[tuple[str, str]]:
    for name in ("podman_cvmfs/ARCHITECTURE.md", ".github/CONTRIBUTING.md"):
        yield name, (_ROOT.parent / name).read_text(encoding="utf-8")


def _paths_in(text: str) -> set[str]:
    """The files and directories that a document names between backquotes or as links."""
    quoted = re.findall(r"`([\w./-]+)`", text) + re.findall(r"\]\(([\w./-]+)\)", text)
    return {each for each in quoted if each.endswith(("/", ".py", ".md", ".sh"))}


def test_documents_name_modules_that_exist() -> None:
    for name, text in _documents():
        here = (_ROOT.parent / name).parent
        paths = _paths_in(text)
        assert len(paths) > 10, name
        for path in paths:
            # Named from the package, from the checkout, or from the document; or beside the one
            # before in a list of tests.
            places = (_ROOT, _ROOT.parent, here, _ROOT.parent / "tests/integration")
            assert any((place / path).exists() for place in places), f"{name}: {path}"


def test_documents_name_every_room() -> None:
    text = dict(_documents())["podman_cvmfs/ARCHITECTURE.md"]
    rooms = re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)
    assert rooms == list(ROOMS)


def test_documents_name_what_modules_define() -> None:
    """``NAME`` in ``MODULE``, and classes with their rooms."""
    text = dict(_documents())["podman_cvmfs/ARCHITECTURE.md"]
    named = re.findall(r"`([A-Za-z]+)(?:\.\w+)?` in `([\w/]+\.py)`", text)
    for classes, module in re.findall(r"\| ((?:`\w+`[^|`]*)+) \| `([\w/]+\.py)` \|", text):
        named += [(each, module) for each in re.findall(r"`(\w+)`", classes)]
    assert len(named) > 5
    for defined, module in named:
        tree = ast.parse((_ROOT / module).read_text(encoding="utf-8"))
        assert defined in set(_defined(tree)), f"{defined} in {module}"
