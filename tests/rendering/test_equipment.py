"""Whom a site gateway lets in, and as whom it leads them on: its nginx's script, in Node.js where there is one."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from config_templates import render
from config_templates.gateway import render_gateway
from tests.rendering.scenarios import SCENARIOS
from tests.rendering.test_association import _request
from tests.rendering.test_gateway import gateway

_NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(_NODE is None, reason="needs node (Node.js) on PATH")


def _played(tmp_path: Path, entry: str, variables: dict[str, str], *pieces: bytes, last: int | None = None) -> dict[str, Any]:
    """`last`: the piece that comes with the end; the final one when not given."""
    files = render_gateway(gateway())
    script = files["nginx/equipment.js"].replace("'association.js'", "'./association.mjs'")
    (tmp_path / "equipment-under-test.mjs").write_text(script, encoding="utf-8")
    (tmp_path / "association.mjs").write_text(files["nginx/association.js"], encoding="utf-8")
    shutil.copy(Path(__file__).parent / "equipment.mjs", tmp_path)
    end = len(pieces) - 1 if last is None else last
    session = {
        "entry": entry,
        "variables": variables,
        "pieces": [{"data": piece.hex(), "last": number >= end} for number, piece in enumerate(pieces)],
    }
    command = [str(_NODE), str(tmp_path / "equipment.mjs")]
    done = subprocess.run(command, input=json.dumps(session), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_the_script_that_judges_associations_is_the_servers_own() -> None:
    assert render_gateway(gateway())["nginx/association.js"] == render(SCENARIOS["none"])["nginx/association.js"]


# -- who is let in ---------------------------------------------------------------------------------------------------------


def _received(tmp_path: Path, *pieces: bytes, equipment: str = "CT1 MR_2") -> dict[str, Any]:
    return _played(tmp_path, "receive", {"equipment": equipment}, *pieces)


@pytest.mark.parametrize("calling", [b"CT1", b"MR_2", b"CT1".rjust(16)])
def test_the_sites_equipment_is_let_in_whatever_it_calls(tmp_path: Path, calling: bytes) -> None:
    told = _received(tmp_path, _request(b"ANY-NAME", calling))
    assert (told["ended"], told["errors"]) == (["passed"], [])
    assert (told["variables"]["called_aet"], told["variables"]["calling_aet"]) == ("ANY-NAME", calling.decode().strip())


@pytest.mark.parametrize("calling", [b"CT2", b"ct1", b"CT", b"CT11", b"", b"CT1 MR_2", b"1 M", b"CT1\x00", b"\xc3CT1"])
def test_whoever_else_calls_is_refused_and_the_log_says_who(tmp_path: Path, calling: bytes) -> None:
    told = _received(tmp_path, _request(calling=calling))
    assert told["ended"] == ["denied"]
    printable = "".join(chr(byte) if 31 < byte < 127 else "?" for byte in calling)
    assert told["errors"] == [f"association refused: '{printable}' is none of this gateway's equipment"]


def test_it_is_judged_when_its_titles_are_whole_and_not_before(tmp_path: Path) -> None:
    whole = _request()
    assert _received(tmp_path, b"", whole[:1], whole[1:41])["ended"] == []
    assert _received(tmp_path, b"", whole[:1], whole[1:41], whole[41:42])["ended"] == ["passed"]
    assert _received(tmp_path, b"GET / HTTP/1.1\r\n")["ended"] == ["denied"]


# -- as whom it is led on --------------------------------------------------------------------------------------------------


def _introduced(tmp_path: Path, *pieces: bytes, own: str = "SITE", last: int | None = None) -> dict[str, Any]:
    return _played(tmp_path, "introduce", {"own_aet": own}, *pieces, last=last)


def _passed_on(told: dict[str, Any]) -> bytes:
    return b"".join(bytes.fromhex(sent["data"]) for sent in told["sent"])


_WHOLE = _request(b"ORTHANC", b"CT1") + b"and what follows, CT1 too"


@pytest.mark.parametrize("own", ["SITE", "A", "SIXTEEN_LETTERS.", "S" * 16])
def test_it_goes_on_under_the_gateways_own_title_and_nothing_else_of_it_is_changed(tmp_path: Path, own: str) -> None:
    told = _introduced(tmp_path, _WHOLE, own=own)
    assert _passed_on(told) == _WHOLE[:26] + own.encode().ljust(16) + _WHOLE[42:]


@pytest.mark.parametrize(
    "cuts",
    [(), (0,), (0, 0, 0), (1,), (26,), (41,), (42,), (43,), (0, 10, 26, 30, 42, 60), tuple(range(len(_WHOLE))), tuple(range(0, 80, 7))],
    ids=str,
)
def test_in_pieces_of_any_size_nothing_is_lost_and_nothing_comes_twice(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    bounds = [0, *cuts, len(_WHOLE)]
    pieces = [_WHOLE[start:end] for start, end in pairwise(bounds)]
    told = _introduced(tmp_path, *pieces)
    assert _passed_on(told) == _WHOLE[:26] + b"SITE".ljust(16) + _WHOLE[42:]
    assert [sent["last"] for sent in told["sent"]] == [False] * (len(told["sent"]) - 1) + [True]


def test_nothing_goes_on_before_the_title_is_the_gateways(tmp_path: Path) -> None:
    assert _introduced(tmp_path, b"", _WHOLE[:41], last=9)["sent"] == []
    assert len(_introduced(tmp_path, b"", _WHOLE[:42], last=9)["sent"]) == 1, "and at once when it is"


@pytest.mark.parametrize("length", [0, 1, 26, 30, 41])
def test_one_that_ends_before_it_said_who_it_is_is_not_finished_for_it(tmp_path: Path, length: int) -> None:
    told = _introduced(tmp_path, b"", _WHOLE[:length])
    assert told["sent"] == [{"data": _WHOLE[:length].hex(), "last": True}]
