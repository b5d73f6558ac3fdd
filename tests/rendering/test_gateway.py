"""A site gateway's folder: what its model refuses, and what its files say, read back as Orthanc, nginx and Docker read them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from config_templates import gateway as module
from config_templates import pins, render
from config_templates.gateway import CERTIFICATES, KEY, PRIVATE, Gateway, Server, render_gateway
from config_templates.gateway import forwarder as forwarder_program
from config_templates.model import Aet, Host, Name, RotatedFiles
from laptop.tell import complaints
from tests.rendering.nginx_blocks import Block, parse
from tests.rendering.scenarios import SCENARIOS, Json
from tests.rendering.test_escapes import _passing
from tests.rendering.test_orthanc import _KEYS

_quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
_SERVER = Server(aet="ORTHANC", host="192.0.2.10", port=11112, name="orthanc-dev.orthanc")


def gateway(**changes: object) -> Gateway:
    values: dict[str, Any] = {
        "aet": "SITE",
        "server": _SERVER,
        "devices": ("CT1", "MR_2"),
        "networks": ("192.168.10.0/24", "10.1.2.3/32"),
        "orthanc_image": pins.ORTHANC_IMAGE,
        "nginx_image": pins.NGINX_IMAGE,
        "postgres_image": pins.POSTGRES_IMAGE,
        "certificate_ends": 1_800_000_000,
    }
    return Gateway(**{**values, **changes})


def nginx_of(**changes: object) -> Block:
    return parse(render_gateway(gateway(**changes))["nginx/nginx.conf"])


def compose_of(**changes: object) -> Json:
    parsed: Json = yaml.safe_load(render_gateway(gateway(**changes))["compose.yaml"])
    return parsed


def containers_of(**changes: object) -> Mapping[str, Json]:
    containers: Mapping[str, Json] = compose_of(**changes)["services"]
    return containers


def orthanc_of(**changes: object) -> Json:
    parsed: Json = json.loads(render_gateway(gateway(**changes))["orthanc/orthanc.json"])
    return parsed


# -- the model -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"networks": ("0.0.0.0/0",)}, "networks: 0.0.0.0/0 is no local network: plain DICOM would be taken from strangers; give one like"),
        ({"networks": ("192.168.10.0/24", "128.0.0.0/7")}, "networks: 128.0.0.0/7 is no local network"),
        ({"networks": ("192.168.10.5/24",)}, "networks.0: '192.168.10.5/24' is no IPv4 network: give one like 192.168.10.0/24"),
        ({"networks": ("fd00::/8",)}, "networks.0: 'fd00::/8' is no IPv4 network: give one like 192.168.10.0/24"),
        ({"networks": ("all;",)}, "networks.0: 'all;' is no IPv4 network: give one like 192.168.10.0/24"),
        ({"networks": ()}, "networks: give at least one network, like 192.168.10.0/24"),
        ({"devices": ()}, "devices: name at least one AE title that may call the gateway"),
        ({"devices": ("CT1", "C T")}, "devices.1: 'C T' is not allowed here: an AE title has 1 to 16 letters"),
        ({"aet": "A" * 17}, f"aet: '{'A' * 17}' is not allowed here: an AE title has 1 to 16 letters"),
        ({"listen": "::"}, "listen: '::' is no IPv4 address: give this computer's own in the site's network, like 192.168.10.5"),
        ({"listen": "nas"}, "listen: 'nas' is no IPv4 address"),
        ({"dicom_port": 104, "direct_port": 104}, "the ports 104, 104, 8048 must differ"),
        ({"status_port": 11113}, "the ports 11112, 11113, 11113 must differ"),
        ({"dicom_port": 65536}, "dicom_port: Input should be less than or equal to 65535"),
        ({"queue_mb": 99}, "queue_mb: Input should be greater than or equal to 100"),
        ({"late_minutes": 0}, "late_minutes: Input should be greater than or equal to 1"),
        ({"certificate_ends": 0}, "certificate_ends: Input should be greater than 0"),
        ({"alarm_url": "ftp://alarms.example/x"}, "alarm_url: URL scheme should be 'http' or 'https'"),
        ({"alarm_url": "file:///etc/passwd"}, "alarm_url: URL scheme should be 'http' or 'https'"),
        ({"alarm_url": "alarms.example"}, "alarm_url: Input should be a valid URL"),
        ({"nginx_image": "nginx:latest"}, "nginx_image: 'nginx:latest' is not allowed here: pin the image by digest"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
    ],
)
def test_a_gateway_that_can_not_be_says_which_value_and_what_would_do(changes: Mapping[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError) as refused:
        gateway(**changes)
    assert complaints(refused.value).startswith(complaint)
    assert "\n" not in complaints(refused.value)


def test_the_same_done_right_is_taken() -> None:
    right = gateway(
        networks=("10.0.0.0/8",), devices=("A" * 16,), listen="192.168.10.5", dicom_port=104, queue_mb=100, alarm_url="https://h.example/x"
    )
    assert (right.networks, right.listen) == ((IPv4Network("10.0.0.0/8"),), IPv4Address("192.168.10.5"))
    assert right == Gateway.model_validate(right)


def test_a_gateway_takes_from_private_networks_when_nobody_says_more() -> None:
    values = {name: getattr(gateway(), name) for name in Gateway.model_fields if name != "networks"}
    assert Gateway(**values).networks == PRIVATE
    assert all(network.is_private for network in PRIVATE)


@_quick
@given(_passing(Aet))
@example("_")
@example("_._")
@example("A.B-C_D")
@example("0" * 16)
def test_every_title_gives_a_project_that_compose_takes(aet: str) -> None:
    project = gateway(aet=aet).project
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", project)  # compose's own rule
    assert TypeAdapter(Name).validate_python(project) == project
    assert compose_of(aet=aet)["name"] == project


# -- all files -------------------------------------------------------------------------------------------------------------


def test_the_same_gateway_gives_the_same_bytes() -> None:
    assert render_gateway(gateway()) == render_gateway(gateway())


def test_no_file_is_a_secret_and_each_lies_in_a_folder_that_one_container_mounts() -> None:
    files = render_gateway(gateway())
    assert not {KEY, *CERTIFICATES} & files.keys()
    mounted = [
        mount["source"].removeprefix("./")
        for container in containers_of().values()
        for mount in container["volumes"]
        if mount["type"] == "bind" and mount.get("read_only")
    ]
    assert {name.partition("/")[0] for name in files if "/" in name} <= set(mounted)
    assert len(mounted) == len(set(mounted)), "what one container reads, no other does"


@pytest.mark.parametrize("directory", ["orthanc", "nginx", "forwarder", "postgres"])
def test_a_container_is_made_anew_when_its_files_change_and_only_then(directory: str) -> None:
    changes: Mapping[str, Mapping[str, object]] = {
        "orthanc": {"aet": "OTHER"},
        "nginx": {"devices": ("CT9",)},
        "forwarder": {"late_minutes": 5},
        "postgres": {},
    }

    def digests(**changed: object) -> Mapping[str, str]:
        return {name: container["labels"]["orthanc.configuration"] for name, container in containers_of(**changed).items()}

    before, after = digests(), digests(**changes[directory])
    assert (before[directory] != after[directory]) == bool(changes[directory])
    if directory in {"nginx", "forwarder"}:
        assert {name for name in before if before[name] != after[name]} == {directory}


def test_what_no_value_changes_is_the_servers_own_or_lies_beside() -> None:
    files = render_gateway(gateway())
    server = render(SCENARIOS["none"])
    assert files["nginx/association.js"] == server["nginx/association.js"]
    assert files["orthanc-log/log.sed"] == server["probe/log.sed"]


# -- orthanc.json ----------------------------------------------------------------------------------------------------------


def test_every_key_of_the_queues_configuration_exists_in_the_pinned_release() -> None:
    rendered = orthanc_of()
    assert rendered.keys() - _KEYS["orthanc.json"].keys() == set()
    assert rendered["PostgreSQL"].keys() - _KEYS["PostgreSQL"].keys() == set()
    assert rendered["DicomModalities"]["server"].keys() - _KEYS["modality"].keys() == set()


@pytest.mark.parametrize(
    ("key", "value"),
    {
        "MaximumStorageMode": "Reject",  # or what waits would make room for what comes
        "SyncStorageArea": True,
        "OverwriteInstances": True,
        "SaveJobs": False,
        "StorageCompression": False,
        "AuthenticationEnabled": True,
        "RemoteAccessAllowed": True,
        "ExecuteLuaEnabled": False,
        "LuaScripts": [],
        "RestApiWriteToFileSystemEnabled": False,
        "WebDavEnabled": False,
        "DeidentifyLogs": True,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": False,
        "DicomAlwaysAllowFindWorklist": False,
        "DicomAlwaysAllowGet": False,
        "DicomAlwaysAllowMove": False,
        "DicomAet": "SITE",
        "DicomPort": 4242,
        "HttpPort": 8042,
        "ConcurrentJobs": forwarder_program.PARALLEL,
        "DatabaseServerIdentifier": "orthanc-gateway-site",
        "DicomScpTimeout": 300,
        "Name": "gateway SITE",
        "DicomThreadsCount": 40,
        "MaximumPduLength": 131072,
    }.items(),
)
def test_the_queue_is_told(key: str, value: object) -> None:
    assert orthanc_of()[key] == value


def test_the_queue_bounds_itself_by_a_file_of_its_own_which_no_rendered_value_overrides() -> None:
    assert not {"MaximumStorageSize", "RegisteredUsers"} & orthanc_of().keys()
    script = render_gateway(gateway())["gateway"]
    assert '{"MaximumStorageSize": %s}' in script
    assert '{"RegisteredUsers": {"forwarder": "%s"}}' in script
    assert {"MaximumStorageSize", "RegisteredUsers"} <= _KEYS["orthanc.json"].keys()


def test_images_leave_through_nginx_under_the_gateways_title_and_as_they_came() -> None:
    (server,) = orthanc_of()["DicomModalities"].values()
    assert orthanc_of()["DicomModalities"].keys() == {module.SERVER}
    assert (server["AET"], server["LocalAet"], server["Host"], server["Port"]) == ("ORTHANC", "SITE", "forward", 20000)
    assert server["AllowTranscoding"] is False
    assert server["UseDicomTls"] is False, "nginx does it; Orthanc would not verify the server's name"
    assert server["Manufacturer"] == "Generic"


def test_the_index_is_asked_without_words_about_patients_in_the_log_and_by_few_connections() -> None:
    said = orthanc_of()["PostgreSQL"]
    assert said["EnableVerboseLogs"] is False, "it would log queries with patients' names"
    assert said["TransactionMode"] == "ReadCommitted"
    assert said["IndexConnectionsCount"] == 8, "PostgreSQL has 20, some of them for its superuser"


def test_whoever_calls_itself_as_the_server_may_do_nothing() -> None:
    (server,) = orthanc_of()["DicomModalities"].values()
    assert {key for key, value in server.items() if key.startswith("Allow") and value} == set()
    rights = {key for key in _KEYS["modality"] if key.startswith("Allow")}
    assert rights - {"AllowStorageCommitment"} <= server.keys(), "what is not said is allowed"


def test_the_index_is_reached_by_its_socket_and_pixels_are_files() -> None:
    index = orthanc_of()["PostgreSQL"]
    assert (index["EnableIndex"], index["EnableStorage"], index["Lock"]) == (True, False, True)
    assert index["ConnectionUri"].startswith("postgresql:///orthanc?host=/var/run/postgresql&user=orthanc")
    assert "Password" not in index


def test_postgresql_listens_on_no_network_and_commits_to_the_disk() -> None:
    files = render_gateway(gateway())
    said = dict(re.findall(r"(?m)^(\w+) = '?([^'\n]*)'?$", files["postgres/postgresql.conf"]))
    assert (said["listen_addresses"], said["unix_socket_directories"]) == ("", "/var/run/postgresql")
    assert (said["hba_file"], said["password_encryption"]) == ("/etc/database/pg_hba.conf", "scram-sha-256")
    assert (said["synchronous_commit"], said["full_page_writes"]) == ("on", "on")
    assert "fsync" not in said
    assert {key: value for key, value in said.items() if key.startswith("log")} == {
        "log_destination": "stderr",
        "logging_collector": "off",
        "log_statement": "none",
        "log_min_duration_statement": "-1",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
    }
    rows = [line.split() for line in files["postgres/pg_hba.conf"].splitlines() if not line.startswith("#")]
    assert rows == [["local", "orthanc", "orthanc", "trust"], ["local", "all", "postgres", "scram-sha-256"]]
    assert orthanc_of()["PostgreSQL"]["IndexConnectionsCount"] < int(said["max_connections"])


def test_the_forwarder_is_told_what_it_asks_for() -> None:
    told = json.loads(render_gateway(gateway(alarm_url="https://h.example/x?a=b"))["forwarder/gateway.json"])
    assert told == {
        "aet": "SITE",
        "server": "ORTHANC at 192.0.2.10:11112",
        "certificate_ends": 1_800_000_000,
        "late_minutes": 15,
        "alarm_url": "https://h.example/x?a=b",
    }
    program = render_gateway(gateway())["forwarder/forwarder.py"]
    assert set(re.findall(r'said\["(\w+)"\]', program)) == told.keys()
    assert json.loads(render_gateway(gateway())["forwarder/gateway.json"])["alarm_url"] == ""


# -- nginx.conf ------------------------------------------------------------------------------------------------------------


def _servers(nginx: Block) -> Mapping[str, Block]:
    """By what they are for; the one for Docker has no word for it."""
    return {server.pairs("set").get("$what", "alive"): server for server in nginx.all("stream", "server")}


def _published() -> set[str]:
    ports = {str(port["target"]) for port in containers_of()["nginx"]["ports"]}
    return {what for what, server in _servers(nginx_of()).items() if server.one("listen").args[0] in ports}


def test_there_are_these_listeners_and_two_of_them_are_published() -> None:
    nginx = nginx_of()
    assert _servers(nginx).keys() == {"dicom-in", "dicom-direct", "dicom-out", "alive"}
    assert [block.name for block in nginx.inner if block.has_braces] == ["events", "stream"]
    assert [module.args for module in nginx.all("load_module")] == [("/usr/lib/nginx/modules/ngx_stream_js_module.so",)]
    assert _published() == {"dicom-in", "dicom-direct"}
    assert _servers(nginx)["alive"].one("listen").args == ("127.0.0.1:8081",)


def test_what_is_published_is_for_the_sites_networks_and_then_for_nobody() -> None:
    for what in ("dicom-in", "dicom-direct"):
        server = _servers(nginx_of())[what]
        rules = [(rule.name, rule.args[0]) for rule in server.inner if rule.name in {"allow", "deny"}]
        assert rules == [("allow", "192.168.10.0/24"), ("allow", "10.1.2.3/32"), ("deny", "all")]
        assert server.pairs("set")["$equipment"] == "CT1 MR_2"
        assert server.one("js_preread").args == ("equipment.receive",)


def test_the_queue_is_reached_by_what_comes_in_to_be_stored_and_by_nothing_else() -> None:
    servers = _servers(nginx_of())
    targets = {what: server.pairs("set").get(server.one("proxy_pass").args[0]) for what, server in servers.items() if what != "alive"}
    assert targets == {"dicom-in": "orthanc:4242", "dicom-direct": "192.0.2.10:11112", "dicom-out": "192.0.2.10:11112"}


def test_nothing_leaves_for_the_server_but_by_mutual_tls_with_its_name_and_authority_verified() -> None:
    leaving = [server for server in _servers(nginx_of()).values() if "192.0.2.10:11112" in server.pairs("set").values()]
    assert len(leaving) == 2
    for server in leaving:
        assert server.value("proxy_ssl") == ("on",)
        assert server.value("proxy_ssl_verify") == ("on",)
        assert server.value("proxy_ssl_verify_depth") == ("1",)
        assert server.value("proxy_ssl_name") == ("orthanc-dev.orthanc",)
        assert server.value("proxy_ssl_server_name") == ("on",)
        assert server.value("proxy_ssl_protocols") == ("TLSv1.2", "TLSv1.3")
        ciphers = parse(render(SCENARIOS["none"])["nginx/nginx.conf"]).one("stream").value("ssl_ciphers")
        assert server.value("proxy_ssl_ciphers") == ciphers
        assert server.value("proxy_ssl_trusted_certificate") == ("/etc/gateway/authority.crt",)
        assert server.value("proxy_ssl_certificate") == ("/etc/gateway/gateway.crt",)
        assert server.value("proxy_ssl_certificate_key") == ("/etc/gateway/gateway.key",)
    assert "proxy_ssl" not in {child.name for child in _servers(nginx_of())["dicom-in"].inner}


def test_every_file_that_nginx_is_told_of_is_there_under_that_name() -> None:
    files = render_gateway(gateway())
    (mount,) = containers_of()["nginx"]["volumes"]
    assert (mount["source"], mount["target"]) == ("./nginx", "/etc/gateway")
    named = {PurePosixPath(path).name for path in re.findall(r"/etc/gateway/([\w./-]+)", files["nginx/nginx.conf"])}
    imported = {block.args[-1] for block in nginx_of().walk() if block.name == "js_import"}
    present = {PurePosixPath(name).name for name in (*files, KEY, *CERTIFICATES) if name.startswith("nginx/")}
    assert named == {"gateway.crt", "gateway.key", "authority.crt"}
    assert nginx_of().one("stream", "js_path").args == ("/etc/gateway",)
    assert imported == {"equipment.js"}
    assert named | imported <= present


def test_the_script_asks_for_no_variable_that_nginx_does_not_know() -> None:
    files = render_gateway(gateway())
    stream = nginx_of().one("stream")
    common = {block.args[0] for block in stream.all("js_var")}
    reading = set(re.findall(r"s\.variables\.(\w+)", files["nginx/equipment.js"]))
    assert reading == {"equipment", "own_aet"}
    for what, functions in {"dicom-in": ["receive"], "dicom-direct": ["receive", "introduce"]}.items():
        own = common | _servers(nginx_of())[what].pairs("set").keys()
        for function in functions:
            body = re.search(rf"function {function}\(s\) \{{.*?\n\}}", files["nginx/equipment.js"], re.DOTALL)
            assert body is not None
            assert {f"${name}" for name in re.findall(r"s\.variables\.(\w+)", body[0])} <= own
    exported = re.search(r"export default \{([^}]*)\}", files["nginx/equipment.js"])
    assert exported is not None
    used = {block.args[0] for block in nginx_of().walk() if block.name in {"js_preread", "js_filter"}}
    assert {f"equipment.{name.strip()}" for name in exported[1].split(",")} == used
    assert {"$called_aet", "$calling_aet"} <= common, "association.js writes them"


def test_nginx_runs_where_nothing_but_tmp_can_be_written_and_docker_sees_it_end() -> None:
    nginx = nginx_of()
    assert {name: nginx.value(name) for name in ("daemon", "pid", "worker_processes", "worker_shutdown_timeout")} == {
        "daemon": ("off",),
        "pid": ("/tmp/nginx.pid",),
        "worker_processes": ("1",),
        "worker_shutdown_timeout": ("600s",),
    }
    assert nginx.one("events", "worker_connections").args == ("1024",)


def test_the_log_names_peers_and_titles_and_no_byte_of_an_image() -> None:
    nginx = nginx_of()
    stream = nginx.one("stream")
    assert (nginx.value("error_log"), stream.value("error_log")) == (("/dev/stderr", "notice"), ("/dev/stderr", "info")), (
        "debug shows bytes"
    )
    name, escape, *parts = stream.one("log_format").args
    assert (name, escape) == ("dicom", "escape=json")
    line = json.loads(re.sub(r'(?<!")\$\w+(?!")', "0", "".join(parts)))
    assert {key: value for key, value in line.items() if value != 0} == {
        "time": "$time_iso8601",
        "what": "$what",
        "client": "$remote_addr",
        "calling": "$calling_aet",
        "called": "$called_aet",
        "upstream": "$upstream_addr",
    }
    assert line.keys() - {"time", "what", "client", "calling", "called", "upstream"} == {"status", "bytes_in", "bytes_out", "seconds"}
    for what, server in _servers(nginx).items():
        assert server.value("access_log") == (("off",) if what == "alive" else ("/dev/stdout", "dicom"))


def test_nobody_is_waited_for_for_ever() -> None:
    for what, server in _servers(nginx_of()).items():
        if what == "alive":
            assert server.one("return").args == ("alive",)
            continue
        assert server.one("listen").args[1:] == ("so_keepalive=on",)
        assert server.value("proxy_socket_keepalive") == ("on",)
        assert server.value("preread_timeout") == ("10s",)
        assert server.value("preread_buffer_size") == ("4k",), "an association request fits, and no image"
        assert server.value("proxy_connect_timeout") == ("10s",)
        # A batch that a cut line holds is tried again after as long as one object may take.
        assert server.value("proxy_timeout") == (f"{forwarder_program.STORE_SECONDS}s" if what == "dicom-out" else "1h",)
        assert server.value("resolver_timeout") == ("5s",)


def test_the_direct_way_is_under_the_gateways_own_title() -> None:
    direct = _servers(nginx_of())["dicom-direct"]
    assert direct.pairs("set")["$own_aet"] == "SITE"
    assert direct.one("js_filter").args == ("equipment.introduce",)


def test_addresses_are_looked_up_again() -> None:
    nginx = nginx_of()
    assert nginx.one("stream", "resolver").args == ("127.0.0.11", "valid=5s", "ipv6=off")
    for block in nginx.walk():
        if block.name == "proxy_pass":
            assert block.args[0].startswith("$"), "a name that stands there itself is looked up once, at the start"


# -- compose.yaml ----------------------------------------------------------------------------------------------------------


def test_there_are_these_containers_and_their_images_are_pinned() -> None:
    images = {name: container["image"] for name, container in containers_of().items()}
    assert images == {
        "postgres": pins.POSTGRES_IMAGE,
        "orthanc": pins.ORTHANC_IMAGE,
        "nginx": pins.NGINX_IMAGE,
        "forwarder": pins.ORTHANC_IMAGE,
    }


@pytest.mark.parametrize("name", ["postgres", "orthanc", "nginx", "forwarder"])
def test_no_container_can_change_itself_or_gain_a_privilege(name: str) -> None:
    container = containers_of()[name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["user"] == "${GATEWAY_UID:?start it by ./gateway start}:${GATEWAY_GID:?start it by ./gateway start}"
    for place in container.get("tmpfs", ()):
        assert "uid=${GATEWAY_UID},gid=${GATEWAY_GID},mode=0700,size=" in place, "its own, and bounded"
    assert container["init"] is True
    assert container["restart"] == "unless-stopped"
    forbidden = {"cap_add", "privileged", "devices", "pid", "ipc", "userns_mode", "extra_hosts", "volumes_from", "env_file", "secrets"}
    assert not forbidden & container.keys()
    assert container["memswap_limit"] == container["mem_limit"]
    assert 0 < container["pids_limit"] <= 1024


@pytest.mark.parametrize("name", ["postgres", "orthanc", "nginx", "forwarder"])
def test_what_a_container_writes_is_its_part_of_the_queue_and_nothing_of_the_folder_besides(name: str) -> None:
    writes = {
        (mount["source"], mount["target"])
        for mount in containers_of()[name]["volumes"]
        if mount["type"] == "bind" and not mount.get("read_only")
    }
    assert (
        writes
        == {
            "postgres": {("./queue/index", "/var/lib/postgresql")},
            "orthanc": {("./queue/pixels", "/var/lib/orthanc/db")},
            "nginx": set(),
            "forwarder": set(),
        }[name]
    )


def test_what_is_written_besides_is_in_memory_and_only_where_a_program_needs_it() -> None:
    places = {name: [place.partition(":")[0] for place in container.get("tmpfs", ())] for name, container in containers_of().items()}
    assert places == {"postgres": ["/tmp"], "orthanc": ["/tmp", "/run/orthanc/plugins"], "nginx": ["/tmp"], "forwarder": []}


def test_nginx_and_the_forwarder_start_with_what_is_mounted() -> None:
    containers = containers_of()
    assert (containers["nginx"]["entrypoint"], containers["nginx"]["command"]) == (["nginx"], ["-c", "/etc/gateway/nginx.conf"])
    assert containers["forwarder"]["entrypoint"] == ["python3", "-u", "/etc/forwarder/forwarder.py"]
    assert containers["forwarder"]["command"] == ["run"]


def test_the_key_is_mounted_where_nginx_reads_it_and_nowhere_else() -> None:
    sees = {name: {mount["source"] for mount in container["volumes"]} for name, container in containers_of().items()}
    assert [name for name, sources in sees.items() if "./nginx" in sources] == ["nginx"]
    assert not [name for name, sources in sees.items() if {".", "./", "./queue"} & sources]


def test_only_nginx_and_the_forwarder_reach_anything_outside() -> None:
    compose = compose_of()
    networks = {name: set(container.get("networks", {})) for name, container in compose["services"].items()}
    assert networks == {"postgres": set(), "orthanc": {"inside"}, "nginx": {"inside", "outside"}, "forwarder": {"inside", "outside"}}
    assert compose["services"]["postgres"]["network_mode"] == "none"
    assert [name for name, container in compose["services"].items() if "network_mode" in container] == ["postgres"]
    assert compose["networks"] == {"inside": {"internal": True}, "outside": {}}


def test_the_index_is_reached_by_its_gateways_own_user_alone() -> None:
    (volume,) = compose_of()["volumes"].items()
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=${GATEWAY_UID},gid=${GATEWAY_GID},mode=0700"}
    assert volume == ("socket", {"driver": "local", "driver_opts": options})
    sees = {name for name, container in containers_of().items() for mount in container["volumes"] if mount["source"] == "socket"}
    assert sees == {"postgres", "orthanc"}


@pytest.mark.parametrize("listen", ["0.0.0.0", "192.168.10.5"])  # noqa: S104 - nothing listens here
def test_ports_are_published_on_ipv4_alone_and_the_status_on_loopback(listen: str) -> None:
    containers = containers_of(listen=listen, dicom_port=104, direct_port=105, status_port=9000)
    assert [name for name, container in containers.items() if "ports" in container] == ["nginx", "forwarder"]
    published = [
        (port["host_ip"], port["published"], port["target"], port["protocol"])
        for container in containers.values()
        for port in container.get("ports", ())
    ]
    assert published == [(listen, "104", 11112, "tcp"), (listen, "105", 11113, "tcp"), ("127.0.0.1", "9000", 8048, "tcp")]
    assert forwarder_program.PORT == 8048


def test_no_secret_stands_in_an_environment() -> None:
    environments = {name: container.get("environment", {}) for name, container in containers_of().items()}
    assert environments == {
        "postgres": {"POSTGRES_PASSWORD_FILE": "/etc/database/superuser-password"},
        "orthanc": {"TCP_NODELAY": "1", "MALLOC_ARENA_MAX": "5", "GENERATE_HOST_ID_IF_MISSING": "false"},
        "nginx": {},
        "forwarder": {"PYTHONDONTWRITEBYTECODE": "1"},
    }


def test_what_orthanc_logs_goes_through_the_filter_that_withholds_patients() -> None:
    orthanc = containers_of()["orthanc"]
    assert orthanc["entrypoint"][:2] == ["bash", "-c"]
    assert orthanc["entrypoint"][2].endswith(" > >(exec sed -u -E -f /etc/orthanc-log/log.sed) 2>&1")
    mounted = {mount["target"]: mount["source"] for mount in orthanc["volumes"]}
    assert mounted["/etc/orthanc-log"] == "./orthanc-log"
    assert "orthanc-log/log.sed" in render_gateway(gateway())


def test_logs_are_bounded() -> None:
    for container in containers_of(logs=RotatedFiles(file_mb=3, files=2)).values():
        assert container["logging"] == {"driver": "json-file", "options": {"max-size": "3m", "max-file": "2"}}


def test_docker_asks_nginx_the_forwarder_and_the_index_whether_they_are_well() -> None:
    checks = {name: container["healthcheck"]["test"] for name, container in containers_of().items() if "healthcheck" in container}
    assert checks.keys() == {"postgres", "nginx", "forwarder"}
    assert checks["forwarder"] == ["CMD", "python3", "/etc/forwarder/forwarder.py", "health"]
    assert checks["nginx"][-1] == "exec 3<>/dev/tcp/127.0.0.1/8081 && grep -q alive <&3"
    assert containers_of()["orthanc"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_orthanc_may_have_more_processes_than_it_has_dicom_threads() -> None:
    assert containers_of()["orthanc"]["pids_limit"] > orthanc_of()["DicomThreadsCount"] + 200


# -- escapes ---------------------------------------------------------------------------------------------------------------


@_quick
@given(_passing(Aet), _passing(Aet), st.lists(_passing(Aet), min_size=1, max_size=3))
@example("null", "no", ["true", "1e3"])
def test_titles_stay_values_in_every_file(aet: str, server: str, devices: list[str]) -> None:
    changes = {"aet": aet, "server": Server(**{**dict(_SERVER), "aet": server}), "devices": tuple(devices)}
    nginx = nginx_of(**changes)
    assert nginx.shape() == nginx_of().shape()
    assert _servers(nginx)["dicom-direct"].pairs("set")["$own_aet"] == aet
    assert _servers(nginx)["dicom-in"].pairs("set")["$equipment"].split(" ") == devices
    told = orthanc_of(**changes)
    assert (told["DicomAet"], told["DicomModalities"]["server"]["AET"]) == (aet, server)
    compose, harmless = compose_of(**changes), compose_of()
    for each in (compose, harmless):
        del each["name"]
        for container in each["services"].values():
            del container["labels"]
    assert compose == harmless
    script, plain = (render_gateway(gateway(**some))["gateway"].splitlines() for some in (changes, {}))
    changed = [(now, before) for now, before in zip(script, plain, strict=True) if now != before]
    for now, before in changed:
        assert now in {before.replace("SITE", aet), before.replace(gateway().project, gateway(**changes).project)}


@_quick
@given(_passing(Host, st.ip_addresses().map(str)), _passing(Host))
def test_hosts_stay_values_in_every_file(host: str, name: str) -> None:
    assume("%" not in host)
    server = Server(aet="ORTHANC", host=host, port=104, name=name)
    nginx = nginx_of(server=server)
    assert nginx.shape() == nginx_of().shape()
    target = f"[{server.host}]:104" if ":" in server.host else f"{server.host}:104"
    assert _servers(nginx)["dicom-out"].pairs("set")["$server"] == _servers(nginx)["dicom-direct"].pairs("set")["$server"] == target
    assert nginx.one("stream", "proxy_ssl_name").args == (server.name,)
    assert json.loads(render_gateway(gateway(server=server))["forwarder/gateway.json"])["server"] == f"ORTHANC at {target}"
    assert render_gateway(gateway(server=server))["gateway"] == render_gateway(gateway())["gateway"]


@pytest.mark.parametrize("url", ["https://h.example/x?token=a'b;$(id)`id`", "https://h.example/%22}{{7*7}}", "http://[::1]:8080/#'\\"])
def test_an_address_for_alarms_is_a_value_in_one_file(url: str) -> None:
    try:
        files = render_gateway(gateway(alarm_url=url))
    except ValidationError:
        return
    plain = render_gateway(gateway())
    changed = {name for name in files if files[name] != plain[name]}
    assert changed == {"forwarder/gateway.json", "compose.yaml"}
    assert files["compose.yaml"].count("\n") == plain["compose.yaml"].count("\n"), "the digest alone"
    assert json.loads(files["forwarder/gateway.json"])["alarm_url"].startswith("http")


def test_the_way_to_the_server_is_open_on_the_inside_network_alone() -> None:
    """Elsewhere a neighbour who routes into Docker's networks could use it, and with it the gateway's certificate."""
    assert containers_of()["nginx"]["networks"] == {"inside": {"aliases": ["forward"]}, "outside": {}}
    assert "listen forward:20000 so_keepalive=on;" in render_gateway(gateway())["nginx/nginx.conf"]


def test_the_forwarder_sees_its_own_files_and_an_empty_folder_of_the_queues_disk() -> None:
    """The disk's room without the pixels on it."""
    mounts = {v["target"]: (v["source"], v["read_only"]) for v in containers_of()["forwarder"]["volumes"]}
    assert mounts == {"/etc/forwarder": ("./forwarder", True), "/queue": ("./queue/watch", True)}


def test_the_index_has_one_role_and_one_database() -> None:
    said = [line for line in render_gateway(gateway())["postgres-init/create.sql"].splitlines() if not line.startswith("--")]
    assert said == ["CREATE ROLE orthanc LOGIN;", "CREATE DATABASE orthanc OWNER orthanc ENCODING 'UTF8' TEMPLATE template0;"]
