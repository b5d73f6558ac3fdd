"""Whether a test notices a mutant: the fast tests, over a copy of the repository with the one line changed.

What is ours is imported anew for each mutant, in a process forked from one that has imported what is not ours already: most
mutants are noticed within a second.
"""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from tests.mutation.mutants import ROOT, Mutant

SECONDS: Final = 180
_INSTALLED: Final = "installed.txt"
# Goldens say that something changed, not that it is wrong. The others judge pages.
_NO_JUDGES: Final = frozenset(
    {"tests/rendering/test_goldens.py", *(f"tests/unit/test_{name}.py" for name in ("alarms", "bench", "conformance", "reference"))}
)
_QUIET: Final = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # what is imported before is none of ours
# Who is asked first, because they stand closest; and then everybody else who could know.
_CLOSEST: Final = {
    "config_templates/compose": "tests/rendering/test_compose.py",
    "config_templates/gateway/equipment": "tests/rendering/test_equipment.py",
    "config_templates/gateway/forwarder": "tests/gateway/test_forwarder.py",
    "config_templates/gateway/gateway": "tests/gateway/test_script.py",
    "config_templates/gateway": "tests/rendering/test_gateway.py",
    "config_templates/model": "tests/rendering/test_model.py",
    "config_templates/nginx/association": "tests/rendering/test_association.py",
    "config_templates/nginx": "tests/rendering/test_nginx.py",
    "config_templates/orthanc": "tests/rendering/test_orthanc.py",
    "config_templates/postgres": "tests/rendering/test_postgres.py",
    "config_templates/probe": "tests/rendering/test_probe.py",
    "config_templates/places": "tests/unit/test_places.py tests/unit/test_connections.py tests/unit/test_stack.py",
    "config_templates/rendering": "tests/rendering/test_model.py tests/rendering/test_compose.py tests/rendering/test_postgres.py",
    "config_templates/routing": "tests/rendering/test_routing.py",
    "config_templates": "tests/rendering/test_compose.py",
    "infra/certificates": "tests/unit/test_problems.py tests/unit/test_settings.py",
    "infra/guardrails": "tests/unit/test_guardrails.py tests/unit/test_guardrail_edges.py",
    "infra/settings": "tests/unit/test_settings.py tests/unit/test_settings_edges.py",
    "policy": "tests/unit/test_policy.py",
    "": "tests/unit/test_documents.py tests/unit/test_connections.py tests/unit/test_stack.py",
}
_EVERYBODY: Final = {
    "config_templates/gateway": ("tests/rendering/test_gateway.py", "tests/gateway", "tests/operations/test_gateway.py"),
    "config_templates": ("tests/rendering", "tests/unit/test_places.py", "tests/unit/test_release.py", "tests/unit/test_stack.py"),
    "infra/guardrails": ("tests/unit/test_policy.py", "tests/unit/test_stack.py"),
    "": ("tests/unit",),
}


@cache  # what was there when the repository was copied
def judges(path: str) -> tuple[Sequence[str], Sequence[str]]:
    closest = next(test for start, test in _CLOSEST.items() if path.startswith(start))
    everybody = next(tests for start, tests in _EVERYBODY.items() if path.startswith(start))
    first = closest.split()
    return (first, [test for test in _files(everybody) if test not in first])


def _files(tests: Iterable[str]) -> list[str]:
    """The files of `tests`, of which some are folders, without those who are no judges."""
    found = (path.relative_to(ROOT).as_posix() for name in tests for path in [ROOT / name, *sorted((ROOT / name).glob("test_*.py"))])
    return [path for path in found if path.endswith(".py") and path not in _NO_JUDGES]


class _Order:
    """Has the tests that noticed something lately come first: what stands beside it is mostly for them too."""

    def __init__(self, first: Sequence[str], told: Path) -> None:
        self.first = first
        self.told = told

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.first.index(item.nodeid) if item.nodeid in self.first else len(self.first))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.told.write_text(report.nodeid, encoding="utf-8")


class Court:
    """A copy of the repository in which one file after the other is changed, judged and put back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gave_up = False  # whether the last tests were ended, because they took too long
        self.noticers: list[str] = []  # tests, the last one first
        self._noticed = folder / "noticed.txt"

    def noticed(self, mutant: Mutant, *, quickly: bool = False) -> bool:
        path = self.folder / mutant.path
        original, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
        try:
            path.write_text(mutant.text, encoding="utf-8")
            return not all(self.passes(tests, compiled=False) for tests in self._asked(mutant.path, quickly=quickly) if tests)
        finally:
            if self._noticed.exists():
                found = self._noticed.read_text(encoding="utf-8")
                self.noticers = [found, *(test for test in self.noticers if test != found)][:20]
                self._noticed.unlink()
            path.write_bytes(original)
            os.utime(path, ns=times)

    def _asked(self, path: str, *, quickly: bool) -> Sequence[Sequence[str]]:
        """Files of tests, one run after the other. Who noticed something lately is asked in the first."""
        closest, others = judges(path)
        lately = {test.partition("::")[0] for test in self.noticers}
        runs = [*closest, *(test for test in others if test in lately)], [test for test in others if test not in lately]
        return [closest] if quickly else runs

    def passes(self, tests: Sequence[str], *, compiled: bool = True) -> bool:
        """Whether `tests` pass here. `compiled`: their bytecode may be kept, which is for the unchanged files alone."""
        child = os.fork()
        if child == 0:
            try:
                os._exit(self._run(tests, compiled=compiled))
            except BaseException:  # noqa: BLE001 - never back into what belongs to the parent
                traceback.print_exc()
                os._exit(1)
        end = time.monotonic() + SECONDS
        self.gave_up = False
        try:
            while time.monotonic() < end:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    child = 0
                    return os.waitstatus_to_exitcode(status) == 0
                time.sleep(0.01)
            self.gave_up = True
            return False
        finally:
            if child:  # too slow, or interrupted
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)

    def _run(self, tests: Sequence[str], *, compiled: bool) -> int:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell takes from what it starts in the background
        os.chdir(self.folder)
        quiet = os.open(self.folder / "last.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.path[:] = [str(self.folder), *(entry for entry in sys.path if entry not in ("", str(ROOT)))]
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]  # the tool itself
        sys.dont_write_bytecode = not compiled
        shown = "--tb=short" if compiled else "--tb=no"  # nobody asks why a mutant was noticed, and it takes time to say
        options = ["-x", "-q", "--no-header", shown, "-p", "no:cacheprovider", *_QUIET]
        status = pytest.main([*options, *tests], [_Order(self.noticers, self._noticed)])
        if compiled:
            theirs = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
            installed = [name for name, file in theirs.items() if "site-packages" in file]
            (self.folder / _INSTALLED).write_text("\n".join(installed), encoding="utf-8")
        return int(status)

    def warm_up(self) -> None:
        """Import what the last tests imported of what is not ours, so that those to come need not."""
        with warnings.catch_warnings(action="ignore"):  # Hypothesis would rather be imported by pytest
            for name in (self.folder / _INSTALLED).read_text(encoding="utf-8").splitlines():
                importlib.import_module(name)
        gc.freeze()  # halves the time: pytest collects garbage whenever it ends, and this is none

    def last_words(self) -> str:
        return (self.folder / "last.log").read_text(encoding="utf-8", errors="replace")


@contextmanager
def court() -> Iterator[Court]:
    with TemporaryDirectory(prefix="mutants-") as scratch:
        folder = Path(scratch) / "repository"
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache", ".demo", ".hypothesis", "__pycache__"))
        yield Court(folder)
