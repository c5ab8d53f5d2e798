# SPDX-License-Identifier: Apache-2.0
"""The words of messages, docstrings and documents: everybody understands them at first reading.

Only the worst faults can be found by a pattern. CONTRIBUTING.md says what good prose is.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_MODULES = sorted((_ROOT / "podman_cvmfs").rglob("*.py"))
_DOCUMENTS = [
    _ROOT / "README.md",
    _ROOT / ".github/CONTRIBUTING.md",
    *sorted((_ROOT / "podman_cvmfs").glob("*.md")),
    *sorted((_ROOT / "packaging").glob("*.md")),
    *sorted((_ROOT / "packaging/manual").glob("*.rst")),
]

#: A fault -> what to write instead.
_FAULTS = {
    re.compile(r"\bbut for\b"): "except",
    re.compile(r"\bshall\b"): "must, should, or the plain present",
    # "if there is none" is plain.
    re.compile(r"(?<!there )\b(?:is|are|was|were) none\b(?! of)"): "is not a ..., or: without",
    re.compile(r"\bfor want of\b"): "without, or: because there is no",
    re.compile(r"\bsave for\b"): "except",
    re.compile(r"\bnor (?:is|are|does|do|has|have)\b"): "and .. not",
}


def _texts(source: str) -> Iterator[tuple[int, str]]:
    """The line and the text of each literal, docstring and comment of a module."""
    parts = ast.parse(source)
    inside = {
        id(part)
        for node in ast.walk(parts)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(parts):
        if isinstance(node, ast.JoinedStr):
            said = [str(x.value) if isinstance(x, ast.Constant) else "X" for x in node.values]
            yield node.lineno, "".join(said)
        elif isinstance(node, ast.Constant) and id(node) not in inside:
            yield node.lineno, str(node.value)
    for number, line in enumerate(source.split("\n"), 1):
        if line.strip().startswith("#"):
            yield number, line


def _faults(text: str) -> list[str]:
    """What is wrong with the words of ``text``, and what to write instead."""
    words = " ".join(text.split())
    return [
        f"{found[0]!r}: write {better}"
        for pattern, better in _FAULTS.items()
        for found in [pattern.search(words)]
        if found
    ]


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_modules_are_in_plain_words(path: Path) -> None:
    found = {
        f"{path.relative_to(_ROOT)}:{line}: {fault}"
        for line, text in _texts(path.read_text(encoding="utf-8"))
        for fault in _faults(text)
    }
    assert not found


@pytest.mark.parametrize("path", _DOCUMENTS, ids=lambda path: str(path.relative_to(_ROOT)))
def test_documents_are_in_plain_words(path: Path) -> None:
    for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
        assert not _faults(paragraph), paragraph


def test_faults_are_found() -> None:
    source = 'def f():\n    """It is\n    none."""\n    # but for x\n    return f"{1}, you shall"\n'
    found = [fault for _, text in _texts(source) for fault in _faults(text)]
    assert sorted(each.split(":")[0] for each in found) == ["'but for'", "'is none'", "'shall'"]
    assert not _faults("None if there is none; so that none are left")
