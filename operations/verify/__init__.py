"""`make verify`: asks a running service from the outside whether it does what it shall and refuses what it must.

Every check is one line of the report: good or BAD with what was measured, or left out with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator

from laptop import tell
from operations.verify.dicom import dicom
from operations.verify.finding import Finding, summary
from operations.verify.target import Target
from operations.verify.web import web

__all__ = ["Finding", "Target", "report", "summary", "verify"]


def verify(target: Target) -> Iterator[Finding]:
    """Each finding when it is made."""
    admin_gets_in = yield from web(target)
    yield from dicom(target, admin_gets_in=admin_gets_in)


def report(target: Target) -> int:
    """Tell each finding. Exit code: 0 when nothing is bad, else 1."""
    tell.step(f"{target.name}: {target.aet} at {target.host}, DICOM port {target.dicom_port}, web port {target.web_port}")
    findings = []
    for finding in verify(target):
        tell.detail(str(finding))
        findings.append(finding)
    text, code = summary(findings)
    tell.step(text)
    return code
