# SPDX-License-Identifier: Apache-2.0
"""Priorities for systemd's journal, which reads a service's output line by line."""

from __future__ import annotations

import logging
import os
import sys

#: logging's levels -> syslog's, as sd-daemon(3) has them before a line.
_PRIORITIES = (
    (logging.ERROR, "<3>"),
    (logging.WARNING, "<4>"),
    (logging.INFO, "<6>"),
    (logging.NOTSET, "<7>"),
)


def is_read() -> bool:
    """Whether stderr leads to the journal: systemd.exec(5) names the file in $JOURNAL_STREAM."""
    named = os.environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def tagged(text: str, level: int) -> str:
    """``text`` with the priority of one of logging's ``level`` before each line."""
    priority = next(priority for least, priority in _PRIORITIES if level >= least)
    return "\n".join(f"{priority}{line}" for line in text.split("\n"))


class JournalFormatter(logging.Formatter):
    """Messages with their priorities."""

    def format(self, record: logging.LogRecord) -> str:
        return tagged(super().format(record), record.levelno)
