"""No value that its type lets pass can become more than a value in the file where it ends up.

Each file is rendered once with harmless values and once with whatever hypothesis finds, and read back: everything but the
values has to be the same, and the values themselves have to arrive as they were given.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, get_args

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from config_templates import Database, Modality, Service, User, render
from config_templates.model import Aet, Directory, Fingerprint, Host, LogName, Name, UserName
from config_templates.routing import outgoing_ports
from tests.rendering.nginx_blocks import Block, look_up, parse
from tests.rendering.scenarios import SCENARIOS, compose_of, fingerprint, modalities_of, orthanc_of
from tests.rendering.scenarios import given as changed

_HOSTILE = "abzAZ019_.-/#~ \t\n\r\0;{}()[]\"'\\$%:,&*!|>@`?=<+^\x85\u2028é"
_quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])


def _passing(kind: Any, *more: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts that pass `kind`: made of what often breaks files, and of its own letters with one of those in it."""
    adapter: TypeAdapter[str] = TypeAdapter(kind)

    def passes(text: str) -> bool:
        try:
            adapter.validate_python(text)
        except ValidationError:
            return False
        return True

    plain = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=16)
    spiked = st.builds(lambda a, spike, b: a + spike + b, plain, st.sampled_from(_HOSTILE), plain)
    return st.one_of(plain, spiked, st.text(_HOSTILE, max_size=8), *more).filter(passes)


_addresses = st.ip_addresses().map(str)
_zoned = st.builds(lambda a, zone: f"{a}%{zone}", st.ip_addresses(v=6), st.text(_HOSTILE, min_size=1, max_size=6))
_aets = _passing(Aet)
_users = _passing(UserName)
_directories = _passing(Directory, st.text(_HOSTILE, min_size=1, max_size=10).map(lambda text: "/" + text))
_names = _passing(Name)
_groups = _passing(LogName)


def _service(  # noqa: PLR0913 - each is one value that lands in some file
    *,
    aet: str = "CT1",
    user: str = "ada",
    address: str = "192.0.2.1",
    run_dir: str = "/run/x",
    scratch_dir: str = "/scratch",
    project: str = "p",
    host: str = "db",
    group: str = "g",
) -> Service:
    return changed(
        SCENARIOS["aws"],
        project=project,
        aet="SERVER-0.9",
        run_dir=run_dir,
        scratch_dir=scratch_dir,
        users=(User(name="zz-admin", role="admin"), User(name=user, role="reader")),
        modalities=(Modality(aet=aet, may=("store",), certificates=(fingerprint(7),), address=address, port=104),),
        database=Database(host=host),
        logs={"kind": "cloudwatch", "region": "r", "group": group},
    )


def _nginx(service: Service) -> Block:
    return parse(render(service)["nginx/nginx.conf"])


@_quick
@given(_aets, _users)
def test_names_of_modalities_and_users_stay_values_in_nginx_conf(aet: str, user: str) -> None:
    assume(aet.lower() != "server-0.9")
    assume(user not in {"probe", "zz-admin", "default", "include", "hostnames", "volatile"})
    nginx = _nginx(_service(aet=aet, user=user))
    assert nginx.shape() == _nginx(_service()).shape()
    tables = {table.args[1]: table for context in ("stream", "http") for table in nginx.all(context, "map")}
    assert look_up(tables["$enrolled_aet"], fingerprint(7)) == aet
    assert look_up(tables["$role"], user) == "reader"
    assert look_up(tables["$role"], "zz-admin") == "admin"
    (outgoing,) = (server for server in nginx.all("stream", "server") if server.all("set")[0].args == ("$what", "dicom-out"))
    assert outgoing.pairs("set")["$receiver_aet"] == aet
    assert outgoing.one("listen").args[0] == str(outgoing_ports([aet])[aet])


@_quick
@given(_aets)
def test_the_name_of_a_modality_stays_a_value_in_what_the_probe_sends(aet: str) -> None:
    assume(aet.lower() != "server-0.9")
    (name,) = modalities_of(_service(aet=aet))
    assert name == aet


def _host_arrives(address: str) -> None:
    service = _service(address=address, host=address)
    nginx = _nginx(service)
    assert nginx.shape() == _nginx(_service()).shape()
    receivers = [server.pairs("set").get("$receiver") for server in nginx.all("stream", "server")]
    assert (f"[{service.database.host}]:104" if ":" in address else f"{address}:104") in receivers
    assert not set(" \t\r\n;{}\"'\\$%") & set(service.database.host)


@_quick
@given(_passing(Host, _addresses))
def test_an_address_stays_a_value(address: str) -> None:
    assume("%" not in address)
    _host_arrives(address)


@_quick
@given(_zoned)
@example("fe80::1%x; } evil {")
def test_an_address_stays_a_value_whatever_follows_a_percent_sign(address: str) -> None:
    try:
        TypeAdapter(Host).validate_python(address)
    except ValidationError:
        return
    _host_arrives(address)


_printable = _directories.filter(lambda text: text.isascii() and text.isprintable())


@_quick
@given(_directories, _printable)
@example("/home/ada/#1 {}[],&*!|>%@`", "/a b")
@example("/home/ada/é", "/a b")
def test_directories_stay_values_in_the_compose_file(run_dir: str, scratch_dir: str) -> None:
    assume(run_dir != scratch_dir)
    compose = compose_of(_service(run_dir=run_dir, scratch_dir=scratch_dir))
    binds = [mount["source"] for container in compose["services"].values() for mount in container["volumes"]]
    assert binds == [f"{run_dir}/orthanc", f"{run_dir}/probe", scratch_dir, f"{run_dir}/nginx"]
    harmless = compose_of(_service(run_dir="/run/x", scratch_dir="/scratch"))
    for container in (*compose["services"].values(), *harmless["services"].values()):
        for mount in container["volumes"]:
            mount["source"] = ""
    assert compose == harmless


@pytest.mark.parametrize("directory", ["/a\rb", "/a\tb", "/a\0b", "/run/../etc", "/run/./x", "//run", "/a\\b", "/\U0001f600/x"])
def test_a_directory_is_plain_and_leads_straight_to_where_it_says(directory: str) -> None:
    # Beyond the basic plane JSON writes two escapes for one letter, which YAML does not join.
    with pytest.raises(ValidationError):
        TypeAdapter(Directory).validate_python(directory)


@_quick
@given(_names, _groups)
@example("null", "no")
@example("y", "1e3")
def test_names_stay_texts_in_the_compose_file(project: str, group: str) -> None:
    compose = compose_of(_service(project=project, group=group))
    assert compose["name"] == project
    for container in compose["services"].values():
        assert container["logging"]["options"]["awslogs-group"] == group
    digests = [container["labels"].pop("orthanc.configuration") for container in compose["services"].values() if "labels" in container]
    assert len(digests) == 1
    for container in compose["services"].values():
        container["logging"]["options"]["awslogs-group"] = "g"
    harmless = compose_of(_service())
    del harmless["services"]["orthanc"]["labels"]["orthanc.configuration"]
    assert {**compose, "name": "p"} == harmless


@_quick
@given(_passing(Host, _addresses).filter(lambda host: ":" not in host), _names, _names)
def test_names_of_the_database_stay_values_in_its_uri(host: str, name: str, user: str) -> None:
    service = changed(SCENARIOS["aws"], database=Database(host=host, name=name, user=user))
    uri = orthanc_of(service)["PostgreSQL"]["ConnectionUri"]
    front, _, options = uri.partition("?")
    assert front == f"postgresql://{user}@{host}:5432/{name}"
    assert options == orthanc_of(SCENARIOS["aws"])["PostgreSQL"]["ConnectionUri"].partition("?")[2]


@given(st.text(_HOSTILE + "abcdef0123456789", min_size=38, max_size=42))
def test_a_fingerprint_is_nothing_but_hex_digits(text: str) -> None:
    try:
        TypeAdapter(Fingerprint).validate_python(text)
    except ValidationError:
        return
    assert len(text) == 40
    assert set(text) <= set("0123456789abcdef")


def test_every_kind_of_text_in_a_service_is_tried_here() -> None:
    """A new kind of text in the model wants a test in this file."""
    tried = {"Aet", "Directory", "Fingerprint", "Host", "Image", "LogName", "Name", "UserName", "Right", "Port"}
    module = __import__("config_templates.model", fromlist=["model"])
    kinds = {name for name, kind in vars(module).items() if name[0].isupper() and get_args(kind) and kind is not Annotated}
    assert kinds == tried


def test_json_files_hold_plain_ascii_only() -> None:
    for service in SCENARIOS.values():
        for name, text in render(service).items():
            if name.endswith(".json"):
                assert text.isascii()
                assert json.loads(text) is not None
