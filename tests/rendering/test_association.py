"""Who may open which association, by the script that nginx runs: here in Node.js, where there is one. tests/service has nginx itself."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from config_templates import render
from tests.rendering.scenarios import SCENARIOS

_NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(_NODE is None, reason="needs node (Node.js) on PATH")
_CT1 = {"enrolled_aet": "CT1", "ssl_client_fingerprint": "ab" * 20, "ssl_client_s_dn": "CN=ct1", "associations_per_modality": "4"}


def _request(called: bytes = b"ORTHANC", calling: bytes = b"CT1", kind: int = 1) -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2). What stands right before, between and after the titles would show in them if one read too far."""
    return bytes([kind]) + b"\0" * 3 + b"<<<<<<" + called.ljust(16) + calling.ljust(16) + b">" * 32


def _played(
    tmp_path: Path, entry: str, variables: dict[str, str], *pieces: bytes, open_already: Mapping[str, int] | None = None
) -> dict[str, Any]:
    (tmp_path / "association-under-test.mjs").write_text(render(SCENARIOS["none"])["nginx/association.js"], encoding="utf-8")
    shutil.copy(Path(__file__).parent / "association.mjs", tmp_path)
    session = json.dumps(
        {"entry": entry, "variables": variables, "pieces": [piece.hex() for piece in pieces], "open": dict(open_already or {})}
    )
    command = [str(_NODE), str(tmp_path / "association.mjs")]
    done = subprocess.run(command, input=session, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _admitted(tmp_path: Path, *pieces: bytes, **changes: str) -> dict[str, Any]:
    return _played(tmp_path, "admit", {**_CT1, **changes}, *pieces)


def test_a_modality_that_calls_itself_what_its_certificate_says_is_let_in_once(tmp_path: Path) -> None:
    told = _admitted(tmp_path, _request(), b"more")
    assert told["ended"] == ["passed"]
    assert told["errors"] == []
    assert (told["variables"]["called_aet"], told["variables"]["calling_aet"]) == ("ORTHANC", "CT1")


def test_titles_of_sixteen_letters_are_read_whole(tmp_path: Path) -> None:
    told = _admitted(tmp_path, _request(b"ABCDEFGHIJKLMNOP", b"QRSTUVWXYZ012345"), enrolled_aet="QRSTUVWXYZ012345")
    assert told["ended"] == ["passed"]
    assert (told["variables"]["called_aet"], told["variables"]["calling_aet"]) == ("ABCDEFGHIJKLMNOP", "QRSTUVWXYZ012345")


def test_a_place_is_taken_with_the_association_and_given_back_with_its_end(tmp_path: Path) -> None:
    told = _played(tmp_path, "admit", dict(_CT1), _request(), open_already={"CT1": 3})
    assert told["ended"] == ["passed"]
    assert (told["open"], told["left"]) == ({"CT1": 3}, "3")


def test_the_first_association_of_a_modality_takes_one_place_and_gives_it_back(tmp_path: Path) -> None:
    told = _admitted(tmp_path, _request(), associations_per_modality="1")
    assert told["ended"] == ["passed"]
    assert (told["open"], told["left"]) == ({"CT1": 0}, "0")


def test_a_modality_without_a_place_left_is_refused_and_takes_none(tmp_path: Path) -> None:
    told = _played(tmp_path, "admit", dict(_CT1), _request(), open_already={"CT1": 4, "MR7": 1})
    assert told["ended"] == ["denied"]
    assert told["errors"] == ["association refused: 'CT1' has 4 associations open already"]
    assert told["open"] == {"CT1": 4, "MR7": 1}


@pytest.mark.parametrize("calling", [b"CT2", b"ct1", b"CT", b"CT11", b"", b"CT\x001"])
def test_whoever_calls_itself_otherwise_is_refused_and_the_log_says_why(tmp_path: Path, calling: bytes) -> None:
    told = _admitted(tmp_path, _request(calling=calling), _request())
    assert told["ended"] == ["denied"]
    (error,) = told["errors"]
    assert error.startswith("association refused: the certificate belongs to 'CT1', but the association calls itself '")


def test_a_certificate_that_is_not_enrolled_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    told = _admitted(tmp_path, _request(calling=b""), enrolled_aet="")
    assert told["ended"] == ["denied"]
    assert told["errors"] == [f"association refused: certificate {'ab' * 20} is not enrolled (CN=ct1)"]
    assert "calling_aet" not in told["variables"]


def test_what_begins_otherwise_than_an_association_request_is_refused_at_its_first_byte(tmp_path: Path) -> None:
    for first in (b"\x00", b"\x02", b"G"):
        assert _admitted(tmp_path, first)["ended"] == ["denied"]
    for pieces in ([b"\x02", _request()], [_request(kind=2)]):
        told = _admitted(tmp_path, *pieces)
        assert told["ended"] == ["denied"]
        assert told["errors"] == ["association refused: the first bytes are no DICOM association request"]


def test_a_request_in_pieces_is_judged_when_both_titles_are_whole_and_not_before(tmp_path: Path) -> None:
    whole = _request(calling=b"CT1".rjust(16))
    assert _admitted(tmp_path, b"", whole[:1], whole[1:41])["ended"] == []
    assert _admitted(tmp_path, b"", whole[:1], whole[1:41], whole[41:42])["ended"] == ["passed"]
    assert _admitted(tmp_path, _request()[:41], b"X")["ended"] == ["denied"]  # what comes last counts


def test_what_can_not_be_printed_can_not_forge_a_line_of_the_log(tmp_path: Path) -> None:
    told = _admitted(tmp_path, _request(calling=b"\x1f !~\x7f\x80\n\rx\xff\x00"))
    assert told["variables"]["calling_aet"] == "? !~????x??"


def test_an_outgoing_port_passes_what_calls_its_own_modality_and_nothing_else(tmp_path: Path) -> None:
    port = {"receiver_aet": "WS1"}
    assert _played(tmp_path, "release", port, _request(called=b"WS1", calling=b"ORTHANC"))["ended"] == ["passed"]
    told = _played(tmp_path, "release", port, _request(called=b"WS2", calling=b"WS1"))
    assert told["ended"] == ["denied"]
    assert told["errors"] == ["association refused: this port leads to 'WS1', but the association calls 'WS2'"]
