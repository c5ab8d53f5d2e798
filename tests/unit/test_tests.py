# SPDX-License-Identifier: Apache-2.0
"""The tests themselves: their places, their length, and their ways into the product."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.attacks import ATTACKS, what_to_run
from tests.unit.test_structure import ROOMS

_PACKAGE = "podman_cvmfs"
_TESTS = Path(__file__).resolve().parents[1]
_MOST_LINES = 400
#: Private names that tests use for want of a public way: file, and names.
_KNOWN = {
    # Limits and places that a test makes smaller, or puts elsewhere.
    "native/test_build.py": {"_GOPATH"},
    "native/test_child.py": {"_END_TIMEOUT"},
    "unit/cache/test_archive.py": {"_MAX_BLOBS"},
    "integration/test_file_lists.py": {"_FEW_DIRECTORIES"},
    "unit/lists/test_catalogue.py": {"_INSTRUCTIONS", "_SECONDS"},
    "unit/lists/test_layer_stream.py": {"_HARMLESS"},
    "unit/lists/test_tar_split.py": {"_MOST"},
    "unit/profiles/test_guess.py": {"_SECONDS"},
    "unit/registry/test_credentials.py": {"_AuthFile", "_HELPER_SECONDS"},
    "unit/registry/test_inside.py": {"_schemes_of"},
    "unit/registry/test_trust.py": {"_DOCKER_HUB_HOST"},
    "unit/settings/test_sharing.py": {"_ENVIRONMENT", "_ENVIRONMENTS"},
    # Steps that can't be told from the whole outside.
    "fuzz/targets.py": {"_layer_facts", "_parse"},
    "unit/publish/test_sources.py": {"_name", "_published_as"},
    "unit/registry/test_logins.py": {"_Challenge", "_parse"},
    "unit/registry/test_hostile.py": {"_sessions", "_transport"},
    "unit/registry/test_special_files.py": {"_chosen_aliases"},
    "unit/registry/test_tokens.py": {"_authenticator", "_headers"},
}

_FILES = {str(path.relative_to(_TESTS)): path for path in sorted(_TESTS.rglob("*.py"))}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _private_names(tree: ast.Module) -> Iterator[str]:
    """The private names of others that a file uses.

    These are private names that it imports, or that it reads from anything but ``self``, ``cls``
    or ``super()``; ``os._exit`` and ``_replace`` of named tuples are public, whatever their names.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (each.name for each in node.names if _is_private(each.name))
        elif isinstance(node, ast.Attribute) and _is_private(node.attr):
            owner = ast.unparse(node.value)
            if node.attr != "_replace" and owner not in ("self", "cls", "super()", "os", "sys"):
                yield node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
            # ``setattr(module, "_name", ..)`` and ``setattr("package._name", ..)``
            texts = [each.value for each in node.args[:2] if isinstance(each, ast.Constant)]
            for text in texts:
                name = str(text).rpartition(".")[2]
                if _is_private(name):
                    yield name


def test_each_folder_of_unit_tests_is_a_room() -> None:
    folders = {path.name for path in (_TESTS / "unit").iterdir() if any(path.glob("*.py"))}
    assert folders <= set(ROOMS)
    # The library's tests need a compiler and podman's own library: they are in tests/native.
    assert set(ROOMS) - folders == {"storage_native"}


def test_what_spans_rooms_lies_above_them() -> None:
    """Tests at the top are of the package as a whole, or of the repository's documents."""
    loose = {path.name for path in (_TESTS / "unit").glob("test_*.py")}
    whole = {"structure", "one_truth", "own_files", "tests", "words"}
    assert loose <= {f"test_{each}.py" for each in (*whole, "manual")}


def test_files_are_short() -> None:
    lines = {name: len(_text(path).splitlines()) for name, path in _FILES.items()}
    assert not {name for name, number in lines.items() if number > _MOST_LINES}


def test_tests_go_by_public_ways() -> None:
    for name, path in _FILES.items():
        assert set(_private_names(ast.parse(_text(path)))) <= _KNOWN.get(name, set()), name


def test_no_test_file_imports_another() -> None:
    """Two files share helpers in tests/support, and fixtures in their folder's conftest."""
    for name, path in _FILES.items():
        for node in ast.walk(ast.parse(_text(path))):
            if isinstance(node, ast.ImportFrom) and path != Path(__file__).resolve():
                module = (node.module or "").rpartition(".")[2]
                assert not module.startswith("test_"), f"{name} imports {node.module}"


def _test_functions(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(_text(path)))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("finding", ATTACKS)
def test_each_attack_has_tests(finding: str) -> None:
    assert ATTACKS[finding]
    for each in ATTACKS[finding]:
        file, _, name = each.partition("::")
        functions = _test_functions(_FILES[file])
        assert name in functions if name else functions, each


def test_the_hostile_suite_runs_each_of_them_once() -> None:
    assert "-m tests.support.attacks" in _text(_TESTS / "hostile.sh")
    run = what_to_run()
    assert len(run) == len(set(run))
    for each in (each for tests in ATTACKS.values() for each in tests):
        path = f"tests/{each}"
        assert len({path, path.partition("::")[0]} & set(run)) == 1, each


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("from podman_cvmfs.store import _x", {"_x"}),
        ("store._x(1)", {"_x"}),
        ("patch.setattr(store, '_x', 1)", {"_x"}),
        ("patch.setattr('podman_cvmfs.store._x', 1)", {"_x"}),
        ("self._x = os._exit\nstore.__class__", set()),
    ],
)
def test_private_names_are_found(code: str, names: set[str]) -> None:
    assert set(_private_names(ast.parse(code))) == names
