# SPDX-License-Identifier: Apache-2.0
"""What ``why`` says of podman's configuration."""

from __future__ import annotations

from podman_cvmfs.podman.services import Service
from podman_cvmfs.reports.configured import Configured
from podman_cvmfs.reports.evidence import Evidence
from podman_cvmfs.reports.why import Code, judge


def test_services_that_leave_the_store_out() -> None:
    services = (Service("/q/a.container", ("--root=/r",)), Service("/q/b.kube", ("--root=/r",)))
    evidence = Evidence("a", "/store", ("r/a:latest",), Configured(True, services=services))
    (reason,) = (each for each in judge(evidence).reasons if each.code is Code.SERVICES)
    assert "/q/a.container and 1 more" in reason.text and "--root=/r" in reason.text
    assert reason.cure == "give podman --storage-opt=imagestore=/store there, too"
    alone = Evidence("a", "/store", ("r/a:latest",), Configured(True))
    assert Code.SERVICES not in {each.code for each in judge(alone).reasons}
