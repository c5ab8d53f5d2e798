# SPDX-License-Identifier: Apache-2.0
"""The process with the library: whatever it does, there is an exception and nothing stays."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from podman_cvmfs.storage_native import Artefact, ChildError, Kind, OpenStore, Unavailable, WrongAbi
from podman_cvmfs.storage_native.child import Child
from podman_cvmfs.storage_native.envelope import MAX_REQUEST, request, result
from podman_cvmfs.storage_native.session import started

_VERSION = '{"result": {"abi": %d, "storage": "1.0", "go": "go1", "pid": 1}, "log": []}'

Fake = Callable[[str], Artefact]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """Makes a program with this Python source; ``read()`` and ``write(text)`` are there."""

    def make(source: str) -> Artefact:
        path = tmp_path / "fake"
        path.write_text(
            f"#!{sys.executable}\nimport os, signal, sys, time\n"
            "read = sys.stdin.readline\n"
            "def write(text):\n    sys.stdout.write(text)\n    sys.stdout.flush()\n"
            + textwrap.dedent(source)
        )
        path.chmod(0o755)
        return Artefact(Kind.PROGRAM, str(path))

    return make


def _ask_version(artefact: Artefact, timeout: float = 60.0) -> None:
    with started(artefact, timeout=timeout):
        pass


def test_a_program_of_another_abi_is_refused_by_name(fake: Fake) -> None:
    artefact = fake(f"read(); write('{_VERSION % 2}\\n'); read()")
    with pytest.raises(WrongAbi) as raised:
        _ask_version(artefact)
    assert artefact.path in raised.value.message
    assert "ABI 2" in raised.value.message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "ended with status 0"),
        ("sys.exit('last words\\x1b')", r"status 1: last words\\x1b"),
        ("read(); os.kill(os.getpid(), signal.SIGSEGV)", "killed by signal 11"),
        ("read(); write('{\"result\"')", "ended with status 0"),
        ("read(); write('{\"result\"\\n')", "not valid JSON"),
        ("read(); write('\\n'); read()", "not valid JSON"),
        ("read(); write('[1]\\n'); read()", "not what"),
        ("read(); os.write(1, b'\\xff\\xfe\\0\\n'); read()", "not valid JSON"),
        ("read(); write('[' * 10**6 + '\\n'); read()", "nested too deeply"),
    ],
)
def test_a_child_that_dies_or_writes_nonsense(fake: Fake, source: str, message: str) -> None:
    with pytest.raises(ChildError, match=message):
        _ask_version(fake(source))


def test_an_endless_answer_is_cut_off(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podman_cvmfs.storage_native.child.MAX_ANSWER", 10**6)
    with pytest.raises(ChildError, match="more than 1000000 bytes"):
        _ask_version(fake("read()\nwhile True: write('x' * 65536)"))


def test_a_child_that_hangs_is_killed(fake: Fake) -> None:
    began = time.monotonic()
    for source in ("time.sleep(600)", "read(); write('{'); time.sleep(600)"):
        with pytest.raises(ChildError, match=r"more than 0\.3 seconds"):
            _ask_version(fake(source), timeout=0.3)
    assert time.monotonic() - began < 10


def test_a_child_that_does_not_end_is_killed(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podman_cvmfs.storage_native.child._END_TIMEOUT", 0.2)
    _ask_version(fake(f"read(); write('{_VERSION % 1}\\n'); time.sleep(600)"))


def test_what_cannot_be_started(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    for path in (plain, tmp_path / "missing"):
        with pytest.raises(Unavailable, match="can't start"):
            _ask_version(Artefact(Kind.PROGRAM, str(path)))
    with pytest.raises(ChildError, match=r"status 1: .*can't load"):
        _ask_version(Artefact(Kind.LIBRARY, str(plain)))


def test_a_killed_child(
    artefact: Artefact, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with OpenStore(str(store), artefact=artefact) as opened:
        (image, *_) = opened.images()
        opened.mounted(image.image_id).__enter__()
        os.kill(opened.version.pid, signal.SIGKILL)
        with pytest.raises(ChildError, match="killed by signal 9"):
            opened.images()
        with pytest.raises(ChildError):
            opened.images()
    assert os.listdir(tmp_path) == []


def test_a_child_killed_during_a_call(artefact: Artefact, store: Path) -> None:
    with OpenStore(str(store), artefact=artefact) as opened:
        killer = threading.Timer(0.2, os.kill, (opened.version.pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(ChildError, match="killed by signal 9"):
            while True:
                opened.layers()
        killer.join()


_HOSTILE = (
    b"",
    b" ",
    b"{",
    b"null",
    b"[]",
    b'"version"',
    b"\xff\xfe\x00",
    b'{"call": "version"} {"call": "version"}',
    b'{"call": "version"}}',
    b'{"call": null}',
    b'{"call": 1}',
    b'{"call": ["version"]}',
    b'{"call": "no such call"}',
    b'{"call": "\\ud800"}',
    b'{"call": "version", "arguments": []}',
    b'{"call": "version", "other": 1}',
    b'{"call": "images", "arguments": {"store": "1"}}',
    b'{"call": "images", "arguments": {"store": 1e400}}',
    b'{"call": "images", "arguments": {"unknown": 1}}',
    b'{"call": "open", "arguments": {"stores": [[]], "graph_root": "x", "run_root": "y"}}',
    b"[" * 1_000_000,
    b'{"call": "' + b"x" * 5_000_000 + b'"}',
    b'{"call": "lookup", "arguments": {"image": "' + b"\\u0000" * 1_000_000 + b'"}}',
)


def test_after_the_end_there_are_no_calls(artefact: Artefact) -> None:
    with Child(artefact) as child:
        pass
    # Its pipes are closed; their numbers may be those of other files by now.
    with pytest.raises(ChildError, match="has been ended"):
        child.call(b"{}")


def test_an_interrupted_call(fake: Fake) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt), Child(fake("time.sleep(600)")) as child:
            child.call(b"{}")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 5
    with pytest.raises(ChildError, match="interrupted"):
        child.call(b"{}")


def test_hostile_requests_are_answered_with_errors(artefact: Artefact) -> None:
    with Child(artefact) as child:
        for line in _HOSTILE:
            answer = child.call(line)
            assert b'"error":{"kind":"request"' in answer, line[:100]
        assert b'"abi":1' in child.call(b'{"call": "version"}')


def test_a_request_that_is_too_large(artefact: Artefact) -> None:
    with Child(artefact) as child:
        answer = child.call(b'{"call": "' + b"x" * MAX_REQUEST + b'"}')
        assert b'"kind":"request"' in answer
        assert b'"abi":1' in child.call(b'{"call": "version"}')


def test_calls_from_several_threads(artefact: Artefact, store: Path) -> None:
    with OpenStore(str(store), artefact=artefact) as opened:
        wanted = opened.images()
        wrong: list[str] = []

        def ask() -> None:
            for _ in range(20):
                for image in wanted:
                    if opened.lookup(image.names[0]) != image.image_id:
                        wrong.append(image.image_id)

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def _resident(pid: int) -> int:
    """Bytes of memory that the process ``pid`` has."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_ten_thousand_calls_without_growth(artefact: Artefact, store: Path) -> None:
    with OpenStore(str(store), artefact=artefact) as opened:
        (image, *_) = opened.images()

        def ask(times: int) -> tuple[int, int]:
            for number in range(times):
                if number % 100:
                    opened.big_data(image.image_id, "manifest")
                else:
                    opened.layers()
            descriptors = len(os.listdir(f"/proc/{opened.version.pid}/fd"))
            return _resident(opened.version.pid), descriptors

        memory, descriptors = ask(2_000)
        later, descriptors_later = ask(10_000)
    # The answers came to 20 MB or so.
    assert later - memory < 5_000_000
    assert descriptors_later <= descriptors


def test_a_huge_answer(artefact: Artefact) -> None:
    """Megabytes in one line, both ways."""
    name = "x" * 4_000_000
    with Child(artefact) as child:
        answer = child.call(request("lookup", {"store": 0, "image": name}))
        assert b'"kind":"request"' in answer
        answer = child.call(request(name, {}))
    with pytest.raises(Exception, match="unknown call") as raised:
        result(answer, "x")
    assert len(str(raised.value)) > len(name)
