"""Hosts need a laboratory, and what a laboratory needs must be on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from rehearsal.cloud import missing

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("host")


@pytest.fixture(scope="session", autouse=True)
def _all_is_there() -> None:
    if lacking := missing():
        pytest.skip(f"this machine lacks: {'; '.join(lacking)} (docs/aws.md, Rehearsal)")
