"""What the probe does with the modalities that are wanted and those that Orthanc knows. Its connection is tried with the real Orthanc."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import warnings
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any, ClassVar

import pytest

from config_templates import Service, places, render
from laptop import certificates
from laptop.certificates import Pair, Profile
from tests.rendering.scenarios import SCENARIOS, containers_of, every_scenario

_WANTED = {"CT": {"AET": "CT", "AllowStore": True}, "MR": {"AET": "MR", "AllowStore": False}}


class _Orthanc:
    def __init__(self, known: Mapping[str, Any]) -> None:
        self.known = dict(known)
        self.calls: list[tuple[str, str]] = []

    def call(self, method: str, path: str, body: object = None) -> object:
        self.calls.append((method, path))
        if method == "GET":
            return dict(self.known)
        name = path.removeprefix("/modalities/")
        if method == "DELETE":
            del self.known[name]
        else:
            self.known[name] = body
        return None


def _probe(folder: Path, orthanc: _Orthanc) -> ModuleType:
    probe = ModuleType("probe")
    path = folder / "probe.py"
    path.write_text(render(SCENARIOS["none"])["probe/probe.py"], encoding="utf-8")
    probe.__file__ = str(path)
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), vars(probe))  # noqa: S102 - our own file, as it is delivered
    vars(probe)["call"] = orthanc.call
    return probe


@pytest.mark.parametrize(
    ("known", "changes"),
    [
        ({}, [("PUT", "/modalities/CT"), ("PUT", "/modalities/MR")]),
        (_WANTED, []),
        ({name: {**properties, "Timeout": 0} for name, properties in _WANTED.items()}, []),  # what nobody asked about
        ({**_WANTED, "OLD": {}}, [("DELETE", "/modalities/OLD")]),
        ({**_WANTED, "MR": {"AET": "MR", "AllowStore": True}}, [("PUT", "/modalities/MR")]),
        ({"OLD": {}, "CT": _WANTED["CT"]}, [("DELETE", "/modalities/OLD"), ("PUT", "/modalities/MR")]),
    ],
)
def test_modalities_are_added_changed_and_removed_and_otherwise_left_alone(
    tmp_path: Path, known: Mapping[str, Any], changes: list[tuple[str, str]]
) -> None:
    (tmp_path / "modalities.json").write_text(json.dumps(_WANTED), encoding="utf-8")
    orthanc = _Orthanc(known)
    assert _probe(tmp_path, orthanc).main(["modalities"]) == 0
    assert orthanc.calls == [("GET", "/modalities?expand"), *changes]
    assert {name: {key: orthanc.known[name][key] for key in _WANTED[name]} for name in orthanc.known} == _WANTED


def test_health_is_asked_where_the_answer_must_come_from_the_database(tmp_path: Path) -> None:
    orthanc = _Orthanc({})
    assert _probe(tmp_path, orthanc).main(["health"]) == 0
    assert orthanc.calls == [("GET", "/changes?last")]


def test_what_goes_wrong_is_one_line_and_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probe = _probe(tmp_path, _Orthanc({}))
    assert probe.main(["modalities"]) == 1  # no modalities.json
    assert len(capsys.readouterr().err.splitlines()) == 1
    (tmp_path / "modalities.json").write_text("{", encoding="utf-8")
    assert probe.main(["modalities"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    for wrong in ([], ["other"], ["health", "modalities"]):
        assert probe.main(wrong) == 2
        said = capsys.readouterr()
        assert (said.out, said.err) == ("", "usage: probe.py health | modalities\n")


def test_the_program_ends_with_its_status(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(render(SCENARIOS["none"])["probe/probe.py"], encoding="utf-8")
    assert subprocess.run([sys.executable, str(tmp_path / "probe.py")], capture_output=True, check=False).returncode == 2


def test_each_change_of_a_modality_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "modalities.json").write_text(json.dumps(_WANTED), encoding="utf-8")
    assert _probe(tmp_path, _Orthanc({"OLD": {}, "MR": {}})).main(["modalities"]) == 0
    assert capsys.readouterr().out.splitlines() == ["modality removed: OLD", "modality added: CT", "modality changed: MR"]


@every_scenario
def test_the_probe_gives_up_before_docker_gives_it_up(service: Service, tmp_path: Path) -> None:
    docker = int(containers_of(service)["orthanc"]["healthcheck"]["timeout"].removesuffix("s"))
    assert 5 <= vars(_probe(tmp_path, _Orthanc({})))["SECONDS"] < docker


# -- its connection, to something that answers as Orthanc does ----------------------------------------------------------


class _Answers(BaseHTTPRequestHandler):
    asked: ClassVar[list[tuple[str, str, str, str]]] = []
    status: ClassVar[int] = 200
    answer: ClassVar[bytes] = b"{}"
    nonsense: ClassVar[bool] = False

    def _serve(self) -> None:
        if self.nonsense:
            self.wfile.write(b"no HTTP\r\n")
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        self.asked.append((self.command, self.path, self.headers["Authorization"], body))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    do_GET = do_PUT = do_DELETE = _serve  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        pass


class _Server(HTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that was refused is no news."""


@dataclass
class _Neighbourhood:
    """Two authorities, what each signed, and a server on loopback that shows `shown` and asks for a certificate of the inside one."""

    folder: Path
    orthanc: Pair = field(default_factory=lambda: certificates.make_authority("orthanc", "ecdsa"))
    inside: Pair = field(default_factory=lambda: certificates.make_authority("inside", "ecdsa"))

    def pair(self, authority: Pair, name: str) -> Pair:
        return certificates.issue(authority, name, Profile(kind="ecdsa", usages=("server", "client"), names=(name,), days=30))

    def probe(self, server: HTTPServer) -> ModuleType:
        probe = ModuleType("probe")
        text = render(SCENARIOS["none"])["probe/probe.py"]
        probe.__file__ = str(self.folder / "probe.py")
        exec(compile(text, probe.__file__, "exec"), vars(probe))  # noqa: S102 - our own file, as it is delivered
        vars(probe)["PORT"] = server.server_address[1]
        own = self.pair(self.inside, "probe.inside")
        for name, content in {
            "orthanc-authority.crt": self.orthanc.certificate,
            "inside-authority.crt": self.inside.certificate,
            "probe.crt": own.certificate,
            "probe.key": own.key,
            "password": "hunter2\n",
        }.items():
            (self.folder / name).write_text(content, encoding="utf-8")
        return probe

    @contextmanager
    def serving(self, shown: Pair, latest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> Iterator[HTTPServer]:
        (self.folder / "shown.pem").write_text(shown.certificate + shown.key, encoding="utf-8")
        (self.folder / "callers.pem").write_text(self.inside.certificate, encoding="utf-8")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "shown.pem")
        context.load_verify_locations(self.folder / "callers.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = latest
        with _Server(("127.0.0.1", 0), _Answers) as server:
            server.socket = context.wrap_socket(server.socket, server_side=True)
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
            thread.start()
            yield server
            server.shutdown()
            thread.join()


@pytest.fixture
def neighbourhood(tmp_path: Path) -> _Neighbourhood:
    _Answers.asked, _Answers.status, _Answers.answer, _Answers.nonsense = [], 200, b"{}", False
    return _Neighbourhood(tmp_path)


def test_orthanc_is_asked_with_the_probes_certificate_name_and_password(neighbourhood: _Neighbourhood) -> None:
    with neighbourhood.serving(neighbourhood.pair(neighbourhood.orthanc, places.ORTHANC_HOST)) as server:
        probe = neighbourhood.probe(server)
        _Answers.answer = b'{"CT": {}}'
        assert probe.call("GET", "/modalities?expand") == {"CT": {}}
        _Answers.answer = b" "
        assert probe.call("PUT", "/modalities/CT", {"AET": "CT"}) is None
        assert probe.main(["health"]) == 0
    basic = "Basic " + b64encode(b"probe:hunter2").decode()
    assert _Answers.asked == [
        ("GET", "/modalities?expand", basic, ""),
        ("PUT", "/modalities/CT", basic, '{"AET": "CT"}'),
        ("GET", "/changes?last", basic, ""),
    ]


def test_an_orthanc_that_refuses_or_breaks_off_is_not_well(neighbourhood: _Neighbourhood, capsys: pytest.CaptureFixture[str]) -> None:
    with neighbourhood.serving(neighbourhood.pair(neighbourhood.orthanc, places.ORTHANC_HOST)) as server:
        probe = neighbourhood.probe(server)
        for status in (401, 500, 199):
            _Answers.status = status
            assert probe.main(["health"]) == 1
        _Answers.nonsense = True
        assert probe.main(["health"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[:2] == [f"health: Orthanc answered {status} to GET /changes?last" for status in (401, 500)]
    assert said.err.splitlines()[-1].startswith("health: Orthanc broke off: BadStatusLine")


def test_whoever_shows_a_certificate_of_another_authority_gets_no_password(neighbourhood: _Neighbourhood) -> None:
    with neighbourhood.serving(neighbourhood.pair(neighbourhood.inside, places.ORTHANC_HOST)) as server:
        assert neighbourhood.probe(server).main(["health"]) == 1
    assert _Answers.asked == []


def test_whoever_shows_a_certificate_for_another_name_gets_no_password(neighbourhood: _Neighbourhood) -> None:
    with neighbourhood.serving(neighbourhood.pair(neighbourhood.orthanc, "other.inside")) as server:
        assert neighbourhood.probe(server).main(["health"]) == 1
    assert _Answers.asked == []


def test_orthancs_certificate_is_verified_under_its_name() -> None:
    text = render(SCENARIOS["none"])["probe/probe.py"]
    assert 'ssl.create_default_context(cafile=str(HOME / "orthanc-authority.crt"))' in text
    assert "server_hostname=NAME" in text
    assert "context.minimum_version = ssl.TLSVersion.TLSv1_2" in text
    assert "check_hostname" not in text
    assert "verify_mode" not in text
    assert "unverified" not in text


# -- the log's filter -----------------------------------------------------------------------------------------------------


def _filtered(tmp_path: Path, log: str) -> str:
    (tmp_path / "log.sed").write_text(render(SCENARIOS["none"])["probe/log.sed"], encoding="utf-8")
    command = ["sed", "-u", "-E", "-f", str(tmp_path / "log.sed")]
    return subprocess.run(command, input=log, capture_output=True, text=True, check=True).stdout


def test_the_id_of_a_patient_is_withheld_from_the_log_and_what_follows_it_up_to_orthancs_next_line(tmp_path: Path) -> None:
    own = "E1124 03:05:23.204963 MAIN main.cpp:7] "
    log = f"{own}before\n{own}Store has failed: PatientID=4711\nDOE^JANE\nPatientID=4712\n{own}after\n{own}PatientID=4713\n{own}end\n"
    withheld = f"{own}Store has failed: PatientID=(withheld)\n(withheld)\n(withheld)\n"
    assert _filtered(tmp_path, log) == f"{own}before\n{withheld}{own}after\n{own}PatientID=(withheld)\n{own}end\n"


def test_what_only_looks_like_a_line_of_orthancs_stays_withheld(tmp_path: Path) -> None:
    for forged in ("E1124 DOE", "e1124 03:05:23", " E1124 03:05:23", "E1124 3:05:23", "DOE E1124 03:05:23"):
        assert _filtered(tmp_path, f"PatientID=4711\n{forged}\n").splitlines()[1:] == ["(withheld)"]
