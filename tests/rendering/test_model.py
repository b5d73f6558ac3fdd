"""What is no service: each mistake refused, with one sentence that says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from jinja2 import UndefinedError
from pydantic import BaseModel, ValidationError

from config_templates import Account, Container, Database, Limits, Modality, RotatedFiles, User, pins, render, rendering
from config_templates.model import CloudWatchLogs
from tests.rendering.scenarios import SCENARIOS, fingerprint, given

_AWS = SCENARIOS["aws"]


def _complaints(error: ValidationError) -> list[str]:
    return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]


def _modality(**changes: object) -> Mapping[str, Any]:
    return {"aet": "CT1", "may": ("store",), "certificates": (fingerprint(1),), **changes}


def _refused(model: type[BaseModel], values: Mapping[str, Any], complaint: str) -> None:
    """Exactly one complaint, which matches, and which repeats no more of the input than it has to."""
    with pytest.raises(ValidationError) as caught:
        model(**values)
    (said,) = _complaints(caught.value)
    assert re.search(complaint, said), said


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (_modality(aet=""), "1 to 16 letters"),
        (_modality(aet="SEVENTEEN_LETTERS"), "1 to 16 letters"),
        (_modality(aet="CT 1"), "1 to 16 letters"),
        (_modality(aet="CT1\n"), "1 to 16 letters"),
        (_modality(aet='CT"'), "1 to 16 letters"),
        (_modality(aet="CT;"), "1 to 16 letters"),
        (_modality(aet="CT$"), "1 to 16 letters"),
        (_modality(aet="CTÄ"), "1 to 16 letters"),
        (_modality(certificates=()), "at least 1 item"),
        (_modality(address="192.0.2.1"), "give both 'address' and 'port', or neither"),
        (_modality(port=104), "give both 'address' and 'port', or neither"),
        (_modality(address="a b", port=104), "DNS name or an IP address"),
        (_modality(address="a;b", port=104), "DNS name or an IP address"),
        (_modality(address="$host", port=104), "DNS name or an IP address"),
        (_modality(address="192.0.2.1:104", port=104), "DNS name or an IP address"),
        (_modality(address="[::1]", port=104), "DNS name or an IP address"),
        (_modality(address="", port=104), "DNS name or an IP address"),
        (_modality(address="a" * 64, port=104), "DNS name or an IP address"),
        (_modality(address="a.b", port=0), "greater than or equal to 1"),
        (_modality(address="a.b", port=65536), "less than or equal to 65535"),
        (_modality(may=("delete",)), "'store', 'find', 'worklist', 'move' or 'get'"),
        (_modality(may="store"), "valid tuple"),
        (_modality(rights=()), "Extra inputs are not permitted"),
    ],
)
def test_a_modality_that_makes_no_sense_is_refused(values: Mapping[str, Any], complaint: str) -> None:
    _refused(Modality, values, complaint)


@pytest.mark.parametrize("fingerprint_", ["AB" * 20, "ab" * 32, ":".join(["ab"] * 20), "", "ab" * 20 + "\n"])
def test_a_certificate_is_named_by_its_sha1_fingerprint_as_nginx_prints_it(fingerprint_: str) -> None:
    with pytest.raises(ValidationError, match="40 lower-case hex digits"):
        Modality(**_modality(certificates=(fingerprint_,)))


def test_a_wrong_fingerprint_is_one_mistake_and_not_two() -> None:
    _refused(Modality, _modality(certificates=("AB" * 20,)), "40 lower-case hex digits")


@pytest.mark.parametrize("address", ["fe80::1%x; } evil {", "fe80::1%eth0", "fe80::1%\n", "::1%$host"])
def test_an_ipv6_address_with_a_zone_is_no_address(address: str) -> None:
    _refused(Modality, _modality(address=address, port=104), "DNS name or an IP address")


@pytest.mark.parametrize("aet", [".", "..", "-CT", ".CT", "CT."])
def test_an_ae_title_begins_and_ends_like_a_name(aet: str) -> None:
    _refused(Modality, _modality(aet=aet), "AE title")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "starts with a letter"),
        ("Ada", "starts with a letter"),
        ("1st", "starts with a letter"),
        ("a:b", "starts with a letter"),
        ("a\n", "starts with a letter"),
        ("~ada", "starts with a letter"),
        ('a"b', "starts with a letter"),
        ("a" * 33, "starts with a letter"),
    ],
)
def test_a_user_whose_name_would_need_quoting_is_refused(name: str, complaint: str) -> None:
    _refused(User, {"name": name, "role": "reader"}, complaint)


@pytest.mark.parametrize("name", ["default", "include", "hostnames", "volatile"])
def test_a_user_whose_name_is_a_word_of_nginx_maps_is_refused(name: str) -> None:
    _refused(User, {"name": name, "role": "reader"}, name)


def test_a_user_has_one_of_two_roles() -> None:
    _refused(User, {"name": "ada", "role": "root"}, "'admin' or 'reader'")


@pytest.mark.parametrize(
    "image",
    [
        "nginx",
        "nginx:1.30.5",
        "nginx@sha256:abc",
        "nginx:1.30.5@sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        pins.NGINX_IMAGE + "\n",
        "nginx latest@sha256:" + "a" * 64,
        "",
    ],
)
def test_an_image_that_is_not_named_by_digest_is_refused(image: str) -> None:
    account = Account(uid=1, gid=1)
    _refused(Container, {"image": image, "account": account, "memory_mb": 64}, "pin the image by digest")


@pytest.mark.parametrize("values", [{"uid": 0, "gid": 1000}, {"uid": 1000, "gid": 0}])
def test_no_container_runs_as_root(values: Mapping[str, int]) -> None:
    _refused(Account, values, "greater than or equal to 1")


@pytest.mark.parametrize("directory", ["", "run", "./run", "/run/", "/", "/a:b", "/a'b", '/a"b', "/$HOME", "/a\nb", "/a\n"])
def test_a_directory_is_an_absolute_path_without_quotes(directory: str) -> None:
    changes = {"run_dir": directory}
    with pytest.raises(ValidationError) as caught:
        given(_AWS, **changes)
    assert [complaint.partition(":")[0] for complaint in _complaints(caught.value)] == ["run_dir"]


_CT = Modality(aet="CT1", may=("store",), certificates=(fingerprint(1),))


def _also(**changes: object) -> Modality:
    return Modality(**_modality(**{"certificates": (fingerprint(2),), **changes}))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"modalities": (_CT, _also())}, "modality 'CT1' stands twice .*give every modality its own AE title"),
        ({"modalities": (_CT, _also(aet="ct1"))}, "modality 'ct1' stands twice .*upper and lower case count as the same"),
        ({"modalities": (_also(aet="HOSPITAL"),)}, "'HOSPITAL' stands twice .*the server's own AE title"),
        ({"modalities": (_also(aet="hospital"),)}, "'hospital' stands twice .*the server's own AE title"),
        ({"modalities": (_CT, _also(aet="MR", certificates=_CT.certificates))}, "certificate .* stands twice .*one modality's identity"),
        ({"modalities": (_also(certificates=(fingerprint(1), fingerprint(1))),)}, "certificate .* stands twice"),
        ({"users": (User(name="a", role="admin"), User(name="a", role="reader"))}, "user 'a' stands twice"),
        ({"users": (User(name="a", role="admin"), User(name="probe", role="reader"))}, "'probe' is the health check's own user"),
        ({"users": (User(name="a", role="reader"),)}, "nobody is an admin"),
        ({"users": ()}, "users: .*at least 1 item"),
        ({"dicom_port": 443}, "dicom_port and web_port are both 443"),
        ({"aet": "TWO WORDS"}, "aet: .*1 to 16 letters"),
        ({"project": "Imaging"}, "project: "),
        ({"logs": {"kind": "syslog"}}, "logs: .*'files', 'cloudwatch'"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
    ],
)
def test_a_service_whose_parts_do_not_fit_together_is_refused(changes: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        given(_AWS, **changes)
    (said,) = _complaints(caught.value)
    assert re.search(complaint, said), said


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (Database, {"host": "db", "index_connections": 1}),
        (Database, {"host": "db", "index_connections": 51}),
        (Database, {"host": "db", "name": "x;y"}),
        (Database, {"host": "db", "user": "x y"}),
        (Database, {"host": "db/x"}),
        (Limits, {"connections_per_address": 0}),
        (Limits, {"associations_per_modality": 0}),
        (Limits, {"dicom_threads": 3}),
        (Limits, {"dicom_threads": 513}),
        (Limits, {"idle_association_seconds": 9}),
        (RotatedFiles, {"files": 1}),
        (CloudWatchLogs, {"region": "eu central", "group": "g"}),
        (CloudWatchLogs, {"region": "eu-central-1", "group": "g:*"}),
        (Account, {"uid": -1, "gid": 1}),
        (Container, {"image": pins.NGINX_IMAGE, "account": Account(uid=1, gid=1), "memory_mb": 63}),
    ],
)
def test_a_number_or_name_out_of_bounds_is_refused(model: type[BaseModel], values: Mapping[str, Any]) -> None:
    _refused(model, values, "")


def test_limits_that_would_let_one_modality_take_every_thread_are_refused() -> None:
    _refused(Limits, {"associations_per_modality": 16, "dicom_threads": 16}, "one modality could keep all others out")
    assert Limits(associations_per_modality=15, dicom_threads=16)


@pytest.mark.parametrize(
    ("model", "values", "key", "lowest", "highest"),
    [
        (Account, {"uid": 1, "gid": 1}, "uid", 1, 2**31 - 1),
        (Account, {"uid": 1, "gid": 1}, "gid", 1, 2**31 - 1),
        (Container, {"image": pins.NGINX_IMAGE, "account": Account(uid=1, gid=1)}, "memory_mb", 64, None),
        (Database, {"host": "db"}, "port", 1, 65535),
        (Database, {"host": "db"}, "index_connections", 2, 50),
        (RotatedFiles, {}, "file_mb", 1, None),
        (RotatedFiles, {}, "files", 2, None),
        (Limits, {}, "connections_per_address", 1, None),
        (Limits, {}, "handshake_seconds", 1, None),
        (Limits, {}, "old_worker_seconds", 1, None),
        (Limits, {}, "idle_association_seconds", 10, None),
        (Limits, {}, "associations_per_modality", 1, None),
        (Limits, {"associations_per_modality": 1}, "dicom_threads", 4, 512),
    ],
)
def test_a_number_has_its_lowest_and_perhaps_its_highest_value(
    model: type[BaseModel], values: Mapping[str, Any], key: str, lowest: int, highest: int | None
) -> None:
    assert getattr(model(**{**values, key: lowest}), key) == lowest
    _refused(model, {**values, key: lowest - 1}, f"{key}: .*greater than or equal to {lowest}")
    if highest is not None:
        assert getattr(model(**{**values, key: highest}), key) == highest
        _refused(model, {**values, key: highest + 1}, f"{key}: .*less than ")


def test_a_site_that_says_nothing_of_bounds_has_those_of_a_department() -> None:
    assert dict(Limits()) == {
        "connections_per_address": 2500,
        "associations_per_modality": 128,
        "handshake_seconds": 10,
        "old_worker_seconds": 600,
        "idle_association_seconds": 300,
        "dicom_threads": 256,
    }
    assert (Database(host="db").port, Database(host="db").index_connections) == (5432, 12)
    assert (RotatedFiles().file_mb, RotatedFiles().files) == (10, 5)
    assert (SCENARIOS["none"].dicom_port, SCENARIOS["none"].web_port) == (11112, 443)


def test_a_complaint_does_not_show_what_pydantic_would_show_of_the_input() -> None:
    changes = {"aet": ("a password in the wrong place",)}
    with pytest.raises(ValidationError) as caught:
        given(_AWS, **changes)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("name", ["my-images", "user", "all", "replication", "postgres"])
def test_a_database_name_or_role_is_quoted_or_refused_where_it_would_be_read_as_something_else(name: str) -> None:
    try:
        files = render(given(SCENARIOS["laptop"], database=Database(host="db", name=name, user=name)))
    except ValidationError:
        return
    assert f'CREATE DATABASE "{name}" OWNER "{name}"' in files["postgres-init/create.sql"]
    assert re.search(rf'^hostssl +"{name}" +"{name}" ', files["postgres/pg_hba.conf"], re.MULTILINE)


def test_a_service_cannot_be_changed_after_it_was_checked() -> None:
    field = "aet"
    with pytest.raises(ValidationError):
        setattr(_AWS, field, "OTHER")


def test_a_complaint_does_not_repeat_what_was_given_for_another_field() -> None:
    with pytest.raises(ValidationError) as caught:
        given(_AWS, aet="TWO WORDS", project="secret-in-the-wrong-field")
    assert "secret-in-the-wrong-field" not in str(caught.value)


# -- values that are none -------------------------------------------------------------------------------------------------


class _Unresolved:
    """As Pulumi's Output: it is true, and prints as a warning."""

    def __str__(self) -> str:
        return "Calling __str__ on an Output[T] is not supported."


@pytest.mark.parametrize("value", [_Unresolved(), None, 1.5], ids=["an unresolved output", "None", "a float"])
@pytest.mark.parametrize(
    "field",
    ["project", "aet", "orthanc", "nginx", "run_dir", "scratch_dir", "dicom_port", "web_port", "database", "users", "logs", "limits"],
)
def test_a_service_is_not_made_of_values_of_another_type(field: str, value: object) -> None:
    changes = {field: value}
    with pytest.raises(ValidationError):
        given(_AWS, **changes)


@pytest.mark.parametrize(
    ("model", "values"),
    [(Account, {"uid": True, "gid": 1}), (Limits, {"old_worker_seconds": True}), (User, {"name": b"ada", "role": "admin"})],
)
def test_true_is_no_number_and_bytes_are_no_text(model: type[BaseModel], values: Mapping[str, Any]) -> None:
    _refused(model, values, "valid (integer|string)")


_NAMELESS: Mapping[str, Any] = {"name": None, "role": "admin"}
_UNCHECKED = [
    ("limits", Limits.model_construct(**{**dict(_AWS.limits), "handshake_seconds": None})),
    ("limits", Limits.model_construct(**{**dict(_AWS.limits), "handshake_seconds": True})),
    ("limits", Limits.model_construct(**{**dict(_AWS.limits), "handshake_seconds": _Unresolved()})),
    ("modalities", (Modality.model_construct(**{**dict(SCENARIOS["laptop"].modalities[0]), "certificates": (None,)}),)),
    ("modalities", (Modality.model_construct(**{**dict(SCENARIOS["laptop"].modalities[0]), "certificates": (_Unresolved(),)}),)),
    ("users", (User.model_construct(**_NAMELESS),)),
    ("users", (User.model_construct(**{**_NAMELESS, "name": _Unresolved()}),)),
    ("aet", _Unresolved()),
    ("project", _Unresolved()),
]


@pytest.mark.parametrize(("field", "value"), _UNCHECKED)
def test_even_unchecked_no_value_is_printed_that_is_only_a_word_of_python(field: str, value: object) -> None:
    service = SCENARIOS["many"].model_copy(update={field: value})
    with pytest.raises((TypeError, ValueError)):
        render(service)


@pytest.mark.parametrize("value", [None, True, False, 1.5, b"x", _Unresolved(), ["x"]])
def test_a_template_prints_texts_and_numbers_alone_whoever_checked_them(value: object) -> None:
    template = rendering.TEMPLATES.from_string("{{ value }}")
    assert template.render(value="x") == "x"
    assert template.render(value=7) == "7"
    with pytest.raises(TypeError):
        template.render(value=value)


def test_a_template_that_asks_for_what_nobody_gave_is_an_error_and_not_taken_for_no() -> None:
    for text in ("{% if nothing %}x{% endif %}", "{% for one in nothing %}x{% endfor %}"):
        with pytest.raises(UndefinedError):
            rendering.TEMPLATES.from_string(text).render()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("project", None),
        ("dicom_port", _Unresolved()),
        ("run_dir", _Unresolved()),
        ("database", Database.model_construct(**{**dict(_AWS.database), "host": _Unresolved()})),
    ],
)
def test_nor_behind_a_filter(field: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        render(_AWS.model_copy(update={field: value}))
