"""The service's life on a whole host: the steps that `python -m rehearsal service` shows, in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from rehearsal.cloud import Cloud
from rehearsal.laboratory import Laboratory
from rehearsal.scene import Scene
from rehearsal.service import STEPS, Step

pytestmark = pytest.mark.host


class _Broken:
    step: ClassVar[str | None] = None


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Laboratory() as lab, Cloud(lab) as cloud:
        yield Scene(lab, cloud)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_step(step: Step, scene: Scene) -> None:
    if _Broken.step is not None:
        pytest.skip(f"needs what {_Broken.step} would have left")
    _Broken.step = step.__name__
    print(step(scene))  # noqa: T201 - what it measured, in the log of a run with -s
    _Broken.step = None
