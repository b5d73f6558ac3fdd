"""One laboratory for all steps: what one leaves, the next finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rehearsal.laboratory import Laboratory, missing

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "engine: the real Pulumi engine against an emulated AWS; long, because RDS is waited for")


@pytest.fixture(scope="session")
def laboratory() -> Iterator[Laboratory]:
    if lacking := missing():
        pytest.skip(f"not on PATH: {', '.join(lacking)} (docs/aws.md, Rehearsal)")
    with Laboratory() as lab:
        yield lab
