"""What must hold of every container of every service, read from the compose file as the engine would read it."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from pathlib import PurePosixPath

from orthanc_host.configuration import DEFAULTS

from config_templates import CloudWatchLogs, Service, pins, places, render
from tests.rendering.scenarios import SCENARIOS, Json, compose_of, containers_of, every_scenario

_METADATA = ip_address("169.254.169.254")


def _accounts(service: Service) -> dict[str, str]:
    containers = {"orthanc": service.orthanc, "nginx": service.nginx, "postgres": service.postgres}
    return {name: f"{c.account.uid}:{c.account.gid}" for name, c in containers.items() if c is not None}


def _seconds(text: str) -> int:
    assert re.fullmatch(r"\d+s", text), text
    return int(text[:-1])


@every_scenario
def test_there_are_exactly_the_containers_that_the_service_asks_for(service: Service) -> None:
    assert containers_of(service).keys() == {"orthanc", "nginx"} | ({"postgres"} if service.postgres else set())


@every_scenario
def test_the_project_has_the_fixed_name_of_the_service(service: Service) -> None:
    assert compose_of(service)["name"] == service.project


@every_scenario
def test_only_nginx_publishes_ports_and_only_its_two(service: Service) -> None:
    containers = containers_of(service)
    assert [name for name, container in containers.items() if "ports" in container] == ["nginx"]
    assert {(port["published"], port["target"], port["protocol"]) for port in containers["nginx"]["ports"]} == {
        (str(service.dicom_port), places.GATEWAY_DICOM_PORT, "tcp"),
        (str(service.web_port), places.GATEWAY_HTTPS_PORT, "tcp"),
    }


@every_scenario
def test_every_image_is_named_by_digest(service: Service) -> None:
    for container in containers_of(service).values():
        assert re.search(r"(^|@)sha256:[0-9a-f]{64}$", container["image"])
        assert "build" not in container


def test_the_service_on_aws_runs_the_pinned_images() -> None:
    images = {name: container["image"] for name, container in containers_of(SCENARIOS["aws"]).items()}
    assert images == {"orthanc": pins.ORTHANC_IMAGE, "nginx": pins.NGINX_IMAGE}


@every_scenario
def test_no_container_can_change_itself_or_gain_a_privilege(service: Service) -> None:
    for container in containers_of(service).values():
        assert container["read_only"] is True
        assert container["cap_drop"] == ["ALL"]
        assert container["security_opt"] == ["no-new-privileges:true"]
        forbidden = {"cap_add", "privileged", "devices", "network_mode", "pid", "ipc", "userns_mode", "extra_hosts", "volumes_from"}
        assert not forbidden & container.keys()


@every_scenario
def test_every_container_runs_as_its_own_account_and_never_as_root(service: Service) -> None:
    accounts = {name: container["user"] for name, container in containers_of(service).items()}
    assert accounts == _accounts(service)
    assert not any(part == "0" for account in accounts.values() for part in account.split(":"))


@every_scenario
def test_every_container_has_bounds_of_memory_without_swap_and_of_processes(service: Service) -> None:
    wanted = {"orthanc": service.orthanc, "nginx": service.nginx, "postgres": service.postgres}
    for name, container in containers_of(service).items():
        asked = wanted[name]
        assert asked is not None
        assert container["mem_limit"] == f"{asked.memory_mb}m"
        assert container["memswap_limit"] == container["mem_limit"]
        assert 0 < container["pids_limit"] <= 1024


@every_scenario
def test_orthanc_may_have_more_processes_than_it_has_dicom_threads(service: Service) -> None:
    # One thread for each association, 50 for HTTP, and those of the plugins.
    assert containers_of(service)["orthanc"]["pids_limit"] > service.limits.dicom_threads + 200


@every_scenario
def test_every_container_says_whether_it_is_well_and_gets_time_to_stop(service: Service) -> None:
    for container in containers_of(service).values():
        check = container["healthcheck"]
        assert check["test"][0] == "CMD"  # no shell in between that would need quoting
        assert _seconds(check["timeout"]) <= 10
        assert 1 <= check["retries"] <= 5
        assert _seconds(check["interval"]) <= 10
        assert _seconds(check["start_period"]) >= 10
        assert 30 <= _seconds(container["stop_grace_period"]) <= 120
        assert container["init"] is True
        assert container["restart"] == "unless-stopped"


@every_scenario
def test_a_container_waits_for_the_health_of_what_it_needs(service: Service) -> None:
    containers = containers_of(service)
    waits = {
        name: {other: how["condition"] for other, how in container.get("depends_on", {}).items()} for name, container in containers.items()
    }
    assert waits["nginx"] == {"orthanc": "service_healthy"}
    assert waits["orthanc"] == ({"postgres": "service_healthy"} if service.postgres else {})


@every_scenario
def test_nginx_reads_what_is_mounted_and_lets_its_connections_end(service: Service) -> None:
    nginx = containers_of(service)["nginx"]
    assert nginx["entrypoint"] == ["nginx"]
    assert nginx["command"] == ["-c", f"{places.MOUNTS['nginx'][1]}/nginx.conf"]
    assert nginx["stop_signal"] == "SIGQUIT"
    assert nginx["ulimits"]["nofile"] >= 8192
    assert all(port.keys() == {"published", "target", "protocol", "mode"} for port in nginx["ports"])  # on every address, IPv6 too


@every_scenario
def test_orthanc_is_started_as_its_image_does_and_its_log_passes_the_filter(service: Service) -> None:
    filtered = f"exec /docker-entrypoint.sh /tmp/orthanc.json > >(exec sed -u -E -f {places.MOUNTS['probe'][1]}/log.sed) 2>&1"
    assert containers_of(service)["orthanc"]["entrypoint"] == ["bash", "-c", filtered]


@every_scenario
def test_orthancs_health_check_is_the_probe_that_reaches_the_database(service: Service) -> None:
    seen = places.MOUNTS["probe"][1]
    assert containers_of(service)["orthanc"]["healthcheck"]["test"] == ["CMD", "python3", f"{seen}/probe.py", "health"]


def test_the_probe_asks_orthanc_under_its_inside_name_and_port() -> None:
    probe = render(SCENARIOS["none"])["probe/probe.py"]
    assert f'\nNAME = "{places.ORTHANC_HOST}"' in probe
    assert f"\nPORT = {places.ORTHANC_HTTPS_PORT}\n" in probe


# -- what is mounted ------------------------------------------------------------------------------------------------------


def _mounts(service: Service) -> list[tuple[str, Json]]:
    return [(name, mount) for name, container in containers_of(service).items() for mount in container["volumes"]]


@every_scenario
def test_every_bind_is_one_of_the_stable_directories_and_never_a_single_file(service: Service) -> None:
    run = PurePosixPath(service.run_dir)
    used = {directory: place for directory, place in places.MOUNTS.items() if place[0] in containers_of(service)}
    wanted = {(container, str(run / directory), seen) for directory, (container, seen) in used.items()}
    wanted.add(("orthanc", service.scratch_dir, "/var/lib/orthanc/db"))
    binds = {(name, mount["source"], mount["target"]) for name, mount in _mounts(service) if mount["type"] == "bind"}
    assert binds == wanted
    files = {str(run / name) for name in render(service)}
    assert not files & {source for _, source, _ in binds}


@every_scenario
def test_what_the_host_delivers_is_mounted_read_only(service: Service) -> None:
    for _, mount in _mounts(service):
        writable = mount["type"] == "volume" or mount["source"] == service.scratch_dir
        assert mount.get("read_only", False) is not writable


@every_scenario
def test_every_rendered_file_lies_in_a_directory_that_some_container_mounts(service: Service) -> None:
    sources = {mount["source"] for _, mount in _mounts(service) if mount["type"] == "bind"}
    for name in render(service):
        directory = name.rpartition("/")[0]
        assert name == "compose.yaml" or f"{service.run_dir}/{directory}" in sources, name


@every_scenario
def test_no_secret_stands_in_the_compose_file(service: Service) -> None:
    parsed = compose_of(service)
    assert not {"secrets", "configs"} & parsed.keys()
    for container in parsed["services"].values():
        assert not {"secrets", "configs", "env_file"} & container.keys()
        # A password's *file* may be named, by the convention of the official images.
        assert not [
            key for key in container.get("environment", {}) if re.search("PASS|SECRET|KEY|TOKEN", key) and not key.endswith("_FILE")
        ]


@every_scenario
def test_orthancs_environment_holds_exactly_what_is_known_to_be_needed(service: Service) -> None:
    assert containers_of(service)["orthanc"]["environment"] == {
        "TCP_NODELAY": "1",
        "MALLOC_ARENA_MAX": "5",
        "GENERATE_HOST_ID_IF_MISSING": "false",
        "STONE_WEB_VIEWER_PLUGIN_ENABLED": "true",
    }


@every_scenario
def test_every_temporary_file_system_is_bounded_and_its_containers_own(service: Service) -> None:
    accounts = _accounts(service)
    for name, container in containers_of(service).items():
        assert container["tmpfs"]
        for line in container["tmpfs"]:
            target, _, options = line.partition(":")
            uid, gid = accounts[name].split(":")
            assert {f"uid={uid}", f"gid={gid}", "mode=0700"} <= set(options.split(",")), line
            assert re.search(r"(^|,)size=\d+m(,|$)", options), line
            assert ("exec" in options.split(",")) is (target == "/run/orthanc/plugins"), line


@every_scenario
def test_a_container_can_write_to_its_temporary_file_systems_where_its_image_needs_them(service: Service) -> None:
    needed = {"orthanc": {"/tmp", "/run/orthanc/plugins"}, "nginx": {"/tmp"}, "postgres": {"/tmp", "/var/run/postgresql"}}
    targets = {name: {line.partition(":")[0] for line in container["tmpfs"]} for name, container in containers_of(service).items()}
    assert targets == {name: needed[name] for name in targets}


@every_scenario
def test_orthanc_is_made_anew_when_its_configuration_changes_and_only_then(service: Service) -> None:
    def label(some: Service) -> object:
        return containers_of(some)["orthanc"]["labels"]["orthanc.configuration"]

    assert label(service) != label(service.model_copy(update={"aet": "OTHER"}))
    assert label(service) == label(service.model_copy(update={"modalities": (), "dicom_port": 9999}))


@every_scenario
def test_enrolling_a_modality_changes_no_containers_definition(service: Service) -> None:
    others = service.model_copy(update={"modalities": SCENARIOS["many"].modalities})
    assert render(others)["compose.yaml"] == render(service)["compose.yaml"]


# -- networks -------------------------------------------------------------------------------------------------------------


@every_scenario
def test_no_container_reaches_the_metadata_address(service: Service) -> None:
    networks = compose_of(service)["networks"]
    (trap,) = [
        name
        for name, network in networks.items()
        for pool in network.get("ipam", {}).get("config", [])
        if _METADATA in ip_network(pool["subnet"])
    ]
    assert networks[trap]["internal"] is True
    assert networks[trap]["driver_opts"] == {
        "com.docker.network.bridge.inhibit_ipv4": "true",
        "com.docker.network.bridge.enable_icc": "false",  # it must not join what is kept apart elsewhere
    }
    for container in containers_of(service).values():
        only_inside = all(networks[name].get("internal") for name in container["networks"])
        assert trap in container["networks"] or only_inside


@every_scenario
def test_the_trap_for_the_metadata_address_has_no_room_for_it_to_be_given_to_a_container(service: Service) -> None:
    network = compose_of(service)["networks"]["no-metadata"]
    (pool,) = network["ipam"]["config"]
    hosts = list(ip_network(pool["subnet"]).hosts())
    # Docker hands addresses out from the low end, after the gateway.
    assert hosts.index(_METADATA) > len(containers_of(service))


@every_scenario
def test_the_laptops_database_is_on_internal_networks_alone(service: Service) -> None:
    parsed = compose_of(service)
    if service.postgres is None:
        assert "database" not in parsed["networks"]
        assert "volumes" not in parsed
        return
    assert parsed["volumes"].keys() == {"database"}
    assert set(parsed["services"]["postgres"]["networks"]) == {"database", "no-metadata"}
    assert parsed["networks"]["no-metadata"]["internal"] is True
    assert parsed["networks"]["database"]["internal"] is True
    assert "database" in parsed["services"]["orthanc"]["networks"]
    assert "database" not in parsed["services"]["nginx"]["networks"]


@every_scenario
def test_orthanc_is_on_an_ordinary_bridge_because_the_database_may_lie_outside_docker(service: Service) -> None:
    parsed = compose_of(service)
    assert not parsed["networks"]["service"].get("internal")
    assert "service" in parsed["services"]["orthanc"]["networks"]


@every_scenario
def test_containers_are_found_under_the_names_in_their_certificates(service: Service) -> None:
    names = {
        name: {alias for network in container["networks"].values() for alias in (network or {}).get("aliases", [])}
        for name, container in containers_of(service).items()
    }
    wanted = {"orthanc": {places.ORTHANC_HOST}, "nginx": {places.GATEWAY_HOST}, "postgres": {places.DATABASE_HOST}}
    assert names == {name: wanted[name] for name in names}


# -- logs, and what Compose itself would rewrite ------------------------------------------------------------------------------


@every_scenario
def test_logs_are_bounded_or_never_block(service: Service) -> None:
    for container in containers_of(service).values():
        logging = container["logging"]
        if isinstance(service.logs, CloudWatchLogs):
            assert logging["driver"] == "awslogs"
            assert logging["options"]["mode"] == "non-blocking"
            assert logging["options"]["max-buffer-size"] == "8m"
            assert logging["options"]["awslogs-region"] == service.logs.region
            assert logging["options"]["awslogs-group"] == service.logs.group
            assert logging["options"]["tag"] == "{{.Name}}"  # Docker's own words: one stream for each container
            assert "awslogs-create-group" not in logging["options"]
        else:
            assert logging == {
                "driver": "json-file",
                "options": {"max-size": f"{service.logs.file_mb}m", "max-file": str(service.logs.files)},
            }


@every_scenario
def test_nothing_in_the_compose_file_would_be_taken_from_an_environment(service: Service) -> None:
    assert "$" not in render(service)["compose.yaml"]


@every_scenario
def test_orthanc_may_upgrade_the_schema_for_as_long_as_the_host_waits(service: Service) -> None:
    check = containers_of(service)["orthanc"]["healthcheck"]
    assert _seconds(check["start_period"]) == DEFAULTS["up_seconds"]
