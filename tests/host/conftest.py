"""Hosts need a laboratory, and what a laboratory needs must be on this machine.

Pulumi's engine, root and iproute2 come from outside: without them the tier is left out everywhere, and says so.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rehearsal.cloud import missing
from tests.lacking import leave_out

HERE = Path(__file__).parent
FROM_OUTSIDE = ("pulumi", "ip")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("host")


@pytest.fixture(scope="session", autouse=True)
def _all_is_there() -> None:
    lacking = missing()
    if not lacking:
        return
    said = f"this machine lacks: {'; '.join(lacking)} (docs/aws.md, Rehearsal)"
    if any(one not in FROM_OUTSIDE and not one.startswith("root ") for one in lacking):
        leave_out(said)
    pytest.skip(said)
