"""A stack's life, from a preview to nothing left: the steps that `python -m rehearsal` shows, in the same order."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from rehearsal.steps import STEPS, Step

if TYPE_CHECKING:
    from rehearsal.laboratory import Laboratory

pytestmark = pytest.mark.engine


class _Broken:
    step: ClassVar[str | None] = None


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_step(step: Step, laboratory: Laboratory) -> None:
    if _Broken.step is not None:
        pytest.skip(f"needs what {_Broken.step} would have left")
    _Broken.step = step.__name__
    print(step(laboratory))  # noqa: T201 - what it found, in the log of a run with -s
    _Broken.step = None
