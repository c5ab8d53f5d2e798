# SPDX-License-Identifier: Apache-2.0
"""What is written in one place of the package, and nowhere else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from podman_cvmfs.repository import layout

_PACKAGE = Path(layout.__file__).parents[1]
_LAYOUT = "repository/layout.py"

#: Parts of paths in DUCC's and OSG's repositories.
_SPELT = re.compile(
    r"\.(?:flat|layers|metadata|multiarch|images)(?![\w.])|layerfs|podmanStore|\bmanifest\.json"
)
#: Names of other formats that are spelt alike: what 'docker save' writes.
_OTHERS = {"publish/source/docker_archive.py": {"manifest.json"}}


def _texts(source: str) -> Iterator[str]:
    """The string literals of a module, without its docstrings."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in docstrings:
            if isinstance(node.value, str):
                yield node.value
            elif isinstance(node.value, bytes):
                yield node.value.decode("latin-1")


def _spelt(source: str) -> set[str]:
    """What the literals of a module spell of a repository's paths."""
    # Regular expressions have a backslash before the dot.
    return {found for text in _texts(source) for found in _SPELT.findall(text)}


_MODULES = sorted(str(path.relative_to(_PACKAGE)) for path in _PACKAGE.rglob("*.py"))
#: A text, and the one module that may have it.
_ELSEWHERE = {
    "--version": "podman/storage_conf/ask.py",
    "overlay-containers": "usage/foreign_store.py",
    "docker://": "registry/meanings.py",
}


@pytest.mark.parametrize("module", [each for each in _MODULES if each != _LAYOUT])
def test_the_layout_of_repositories_is_told_once(module: str) -> None:
    spelt = _spelt((_PACKAGE / module).read_text(encoding="utf-8"))
    assert not spelt - _OTHERS.get(module, set()), "say it in repository/layout.py"


@pytest.mark.parametrize("text", _ELSEWHERE)
def test_other_things_that_are_done_in_one_place(text: str) -> None:
    sources = {module: (_PACKAGE / module).read_text(encoding="utf-8") for module in _MODULES}
    found = [
        module
        for module, source in sources.items()
        if text in source and any(text in each for each in _texts(source))
    ]
    assert found == [_ELSEWHERE[text]]


def test_nobody_asks_of_which_layout_a_repository_is() -> None:
    asked = re.compile(r"isinstance\([^)]*\b(?:Osg)?Repository\b")
    for module in _MODULES:
        assert not asked.search((_PACKAGE / module).read_text(encoding="utf-8")), module


def test_the_layout_imports_nothing() -> None:
    """A sync with nothing to do pays for its imports."""
    tree = ast.parse((_PACKAGE / _LAYOUT).read_text(encoding="utf-8"))
    imported = [each for each in ast.walk(tree) if isinstance(each, (ast.Import, ast.ImportFrom))]
    assert [ast.unparse(each) for each in imported] == ["from __future__ import annotations"]


def test_what_is_spelt_is_found() -> None:
    assert _spelt((_PACKAGE / _LAYOUT).read_text(encoding="utf-8")) >= {
        *layout.PARTS,
        layout.MULTIARCH,
        layout.LAYERFS,
        layout.PODMAN_STORE,
        layout.MANIFEST,
    }
    assert _spelt('x = f"{root}/.flat/{name}"\ny = r"\\.images/"\nz = b".layers"') == {
        ".flat",
        ".images",
        ".layers",
    }
    assert (
        _spelt('def f():\n    """In ``.flat``."""\n    return image.layers, "a.images.b"') == set()
    )
