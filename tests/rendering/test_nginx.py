"""What the gateway lets through, verifies and writes into its logs, read from nginx.conf as nginx would read it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest

from config_templates import Service, places, render
from config_templates.routing import outgoing_ports
from tests.rendering.nginx_blocks import Block, look_up, parse
from tests.rendering.scenarios import SCENARIOS, every_scenario

_AEAD = re.compile(r"ECDHE-(RSA|ECDSA)-(AES(128|256)-GCM-SHA\d+|CHACHA20-POLY1305)")
_PROTOCOLS = ("TLSv1.2", "TLSv1.3")


def gateway(service: Service) -> Block:
    return parse(render(service)["nginx/nginx.conf"])


def _table(nginx: Block, context: str, yields: str) -> Block:
    (found,) = (table for table in nginx.all(context, "map") if table.args[1] == yields)
    return found


def _servers(nginx: Block) -> list[Block]:
    return [*nginx.all("stream", "server"), *nginx.all("http", "server")]


def _port(server: Block) -> int:
    return int(server.one("listen").args[0].rpartition(":")[2])


def _incoming(nginx: Block) -> Block:
    (found,) = (server for server in nginx.all("stream", "server") if _port(server) == places.GATEWAY_DICOM_PORT)
    return found


def _web(nginx: Block) -> Block:
    (found,) = (server for server in nginx.all("http", "server") if _port(server) == places.GATEWAY_HTTPS_PORT)
    return found


def _page(nginx: Block) -> Block:
    (found,) = (location for location in _web(nginx).all("location") if location.args == ("/",))
    return found


def test_what_a_reader_may_post_is_small_and_whole_before_orthanc_hears_of_it_and_judged_like_the_rest() -> None:
    for service in SCENARIOS.values():
        web = _web(gateway(service))
        (posted,) = (location for location in web.all("location") if location.args == ("~", "^/tools/(find|lookup|count-resources)$"))
        assert posted.value("proxy_request_buffering") == ("on",)
        assert posted.value("client_max_body_size") == posted.value("client_body_buffer_size") == ("64k",)
        page = _page(gateway(service)).inner
        assert [(child.name, child.args) for child in posted.inner][4:] == [(child.name, child.args) for child in page]


def test_only_a_name_that_somebody_has_is_logged() -> None:
    table = _table(gateway(SCENARIOS["aws"]), "http", "$who")
    assert look_up(table, "nobody") == ""
    assert look_up(table, "admin") == look_up(table, "reader") == "$remote_user"


# -- TLS, in every server at once -----------------------------------------------------------------------------------------


@every_scenario
def test_nothing_listens_without_tls_except_the_health_check_on_loopback(service: Service) -> None:
    for server in _servers(gateway(service)):
        address, *options = server.one("listen").args
        assert "ssl" in options or address == f"127.0.0.1:{places.GATEWAY_ALIVE_PORT}"


@every_scenario
def test_every_server_speaks_tls_1_2_and_later_with_authenticated_ciphers_only(service: Service) -> None:
    for server in _servers(gateway(service)):
        if "ssl" not in server.one("listen").args:
            continue
        assert server.value("ssl_protocols") == _PROTOCOLS
        (ciphers,) = server.value("ssl_ciphers") or ("",)
        assert all(_AEAD.fullmatch(cipher) for cipher in ciphers.split(":"))
        assert server.value("ssl_session_tickets") == ("off",)
        assert server.one("ssl_certificate")


@every_scenario
def test_everything_that_is_passed_on_is_encrypted_again_and_its_receiver_verified(service: Service) -> None:
    passing = [block for block in gateway(service).walk() if any(child.name == "proxy_pass" for child in block.inner)]
    assert len(passing) == 3 + sum(modality.address is not None for modality in service.modalities)
    for block in passing:
        (target,) = block.one("proxy_pass").args
        assert target.startswith("https://") or block.value("proxy_ssl") == ("on",)
        assert block.value("proxy_ssl_verify") == ("on",)
        assert block.value("proxy_ssl_verify_depth") == ("1",)
        assert block.value("proxy_ssl_protocols") == _PROTOCOLS
        assert block.value("proxy_ssl_ciphers") == block.value("ssl_ciphers")
        for needed in ("proxy_ssl_name", "proxy_ssl_trusted_certificate", "proxy_ssl_certificate", "proxy_ssl_certificate_key"):
            assert block.value(needed) is not None, needed


@every_scenario
def test_every_file_that_nginx_is_told_of_is_rendered_or_put_there_by_the_host(service: Service) -> None:
    text = render(service)["nginx/nginx.conf"]
    home = PurePosixPath(places.MOUNTS["nginx"][1])
    named = {PurePosixPath(path) for path in re.findall(r"(?<=\s)/etc/[\w./-]+", text)}
    present = {home / name for name in places.SECRETS["nginx"]} | {home / "association.js"}
    assert named
    assert named <= present


@every_scenario
def test_a_private_key_is_used_with_its_own_certificate(service: Service) -> None:
    for block in gateway(service).walk():
        for certificate in ("ssl_certificate", "proxy_ssl_certificate"):
            for directive in block.all(certificate):
                key = block.one(f"{certificate}_key")
                assert directive.args[0].removesuffix(".crt") == key.args[0].removesuffix(".key")


# -- associations ---------------------------------------------------------------------------------------------------------


@every_scenario
def test_a_modality_is_admitted_by_an_enrolled_certificate_of_the_outside_authority(service: Service) -> None:
    server = _incoming(gateway(service))
    assert server.one("ssl_verify_client").args == ("on",)
    assert server.one("ssl_client_certificate").args == ("/etc/gateway/outside-authority.crt",)
    assert server.value("ssl_verify_depth") == ("1",)
    assert server.one("js_preread").args == ("association.admit",)
    assert server.value("ssl_session_cache") == ("off",)  # nobody resumes with a certificate that was struck since


@every_scenario
def test_every_certificate_in_force_leads_to_its_own_modality_and_every_other_to_none(service: Service) -> None:
    table = _table(gateway(service), "stream", "$enrolled_aet")
    assert table.args[0] == "$ssl_client_fingerprint"
    assert len(table.inner) == 1 + sum(len(modality.certificates) for modality in service.modalities)
    for modality in service.modalities:
        for certificate in modality.certificates:
            assert look_up(table, certificate) == modality.aet
    for stranger in ("", "f" * 40):
        assert look_up(table, stranger) == ""


@every_scenario
def test_an_admitted_association_goes_to_orthanc_under_the_name_in_its_certificate(service: Service) -> None:
    server = _incoming(gateway(service))
    assert server.pairs("set").items() >= {"$what": "dicom-in", "$orthanc": places.ORTHANC_HOST}.items()
    assert server.one("proxy_pass").args == (f"$orthanc:{places.ORTHANC_DICOM_PORT}",)
    assert server.one("proxy_ssl_name").args == (places.ORTHANC_HOST,)
    assert server.one("proxy_ssl_trusted_certificate").args == ("/etc/gateway/orthanc-authority.crt",)
    assert server.one("proxy_ssl_certificate").args == ("/etc/gateway/gateway.crt",)


@every_scenario
def test_each_modality_with_an_address_has_a_port_of_its_own_and_no_other_has(service: Service) -> None:
    receivers = {modality.aet: modality for modality in service.modalities if modality.address is not None}
    ports = outgoing_ports(receivers)
    outgoing = [server for server in gateway(service).all("stream", "server") if _port(server) != places.GATEWAY_DICOM_PORT]
    assert {_port(server) for server in outgoing} == set(ports.values())
    for server in outgoing:
        values = server.pairs("set")
        assert values["$what"] == "dicom-out"
        modality = receivers[values["$receiver_aet"]]
        address = f"[{modality.address}]" if ":" in str(modality.address) else modality.address
        assert _port(server) == ports[modality.aet]
        assert values["$receiver"] == f"{address}:{modality.port}"
        assert server.one("proxy_pass").args == ("$receiver",)
        assert server.one("proxy_ssl_name").args == (places.modality_host(modality.aet),)
        assert server.one("proxy_ssl_trusted_certificate").args == ("/etc/gateway/outside-authority.crt",)
        assert server.one("proxy_ssl_certificate").args == ("/etc/gateway/outgoing.crt",)


@every_scenario
def test_only_orthanc_may_use_an_outgoing_port(service: Service) -> None:
    for server in gateway(service).all("stream", "server"):
        if _port(server) == places.GATEWAY_DICOM_PORT:
            continue
        assert server.one("js_preread").args == ("association.release",)
        assert server.one("ssl_verify_client").args == ("on",)
        assert server.one("ssl_client_certificate").args == ("/etc/gateway/orthanc-authority.crt",)


@every_scenario
def test_the_script_is_loaded_and_sees_enough_of_the_first_pdu(service: Service) -> None:
    nginx = gateway(service)
    assert nginx.one("load_module").args[0].endswith("/ngx_stream_js_module.so")
    assert nginx.one("stream", "js_import").args == ("association", "from", f"{places.MOUNTS['nginx'][1]}/association.js")
    for server in nginx.all("stream", "server"):
        (size,) = server.value("preread_buffer_size") or ("",)
        assert int(size.removesuffix("k")) * 1024 >= 42  # where the AE titles end


@every_scenario
def test_names_inside_docker_are_looked_up_again_when_a_container_was_made_anew(service: Service) -> None:
    nginx = gateway(service)
    for context in ("stream", "http"):
        assert nginx.one(context, "resolver").args[:2] == ("127.0.0.11", "valid=5s")
    for block in nginx.walk():
        assert not block.all("proxy_pass") or "$" in block.one("proxy_pass").args[0]  # a plain name is looked up once, at start


@every_scenario
def test_nginx_writes_nowhere_but_to_its_temporary_directory_and_its_two_streams(service: Service) -> None:
    nginx = gateway(service)
    assert nginx.one("daemon").args == ("off",)
    assert nginx.one("pid").args[0].startswith("/tmp/")
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):  # their defaults lie below a read-only prefix
        assert nginx.one("http", f"{kind}_temp_path").args[0].startswith("/tmp/")
    logs = [block for block in nginx.walk() if block.name in {"access_log", "error_log"} and block.args != ("off",)]
    assert {block.args[0] for block in logs} == {"/dev/stdout", "/dev/stderr"}


@every_scenario
def test_the_error_log_tells_why_an_association_was_refused_and_never_debugs(service: Service) -> None:
    nginx = gateway(service)
    assert nginx.one("error_log").args == ("/dev/stderr", "notice")
    assert [block.args[1] for block in nginx.one("stream").walk() if block.name == "error_log"] == ["info"]  # where nginx says so


@every_scenario
def test_the_script_finds_every_variable_that_it_reads(service: Service) -> None:
    stream = gateway(service).one("stream")
    script = render(service)["nginx/association.js"]
    read = {name for name in re.findall(r"s\.variables\.(\w+)", script) if not name.startswith("ssl_client_")}
    (exported,) = re.findall(r"export default \{(.*)\}", script)
    everywhere = {directive.args[0] for directive in stream.all("js_var")} | {table.args[1] for table in stream.all("map")}
    own = {
        "association.admit": {"enrolled_aet", "called_aet", "calling_aet", "associations_per_modality", "counted_aet"},
        "association.release": {"receiver_aet", "called_aet", "calling_aet"},
    }
    assert read == set().union(*own.values())
    for server in stream.all("server"):
        (function,) = server.one("js_preread").args
        assert function.removeprefix("association.") in exported.split(", ")
        known = everywhere | {directive.args[0] for directive in server.all("set")}
        assert {f"${name}" for name in own[function]} <= known


@every_scenario
def test_nobody_can_hold_the_gateway_by_being_slow_or_by_many_connections(service: Service) -> None:
    nginx = gateway(service)
    limits = service.limits
    server = _incoming(nginx)
    assert server.one("limit_conn").args == ("addresses", str(limits.connections_per_address))
    assert nginx.one("stream", "limit_conn_zone").args[:2] == ("$binary_remote_addr", "zone=addresses:1m")
    assert server.pairs("set")["$associations_per_modality"] == str(limits.associations_per_modality)
    assert nginx.one("stream", "js_shared_dict_zone").args == ("zone=open:64k", "type=number", "timeout=1h")
    assert server.value("ssl_handshake_timeout") == (f"{limits.handshake_seconds}s",)
    assert server.value("preread_timeout") == (f"{limits.handshake_seconds}s",)
    assert nginx.one("worker_shutdown_timeout").args == (f"{limits.old_worker_seconds}s",)


def _seconds(time: str) -> int:
    return int(time[:-1]) * {"s": 1, "m": 60, "h": 3600}[time[-1]]


@every_scenario
def test_a_slow_browser_is_given_up_soon_before_it_is_known_and_within_minutes_after(service: Service) -> None:
    web = _web(gateway(service))
    assert _seconds(web.one("client_header_timeout").args[0]) <= 10
    assert _seconds(web.one("client_body_timeout").args[0]) <= 300
    assert _seconds(web.one("send_timeout").args[0]) <= 300
    (posted,) = (location for location in web.all("location") if location.args[0] == "~")
    assert _seconds(posted.one("client_body_timeout").args[0]) <= 10


@every_scenario
def test_docker_asks_whether_nginx_answers_and_no_log_is_filled_with_it(service: Service) -> None:
    (alive,) = (server for server in gateway(service).all("http", "server") if _port(server) == places.GATEWAY_ALIVE_PORT)
    assert [(child.name, child.args) for child in alive.inner] == [
        ("listen", (f"127.0.0.1:{places.GATEWAY_ALIVE_PORT}",)),
        ("access_log", ("off",)),
        ("return", ("204",)),
    ]


@every_scenario
def test_an_association_gives_its_place_back_when_it_is_logged(service: Service) -> None:
    stream = gateway(service).one("stream")
    (variable,) = (directive.args[0] for directive in stream.all("js_set") if directive.args[1] == "association.leave")
    assert variable in "".join(stream.one("log_format").args)
    assert stream.one("access_log").args == ("/dev/stdout", "dicom")
    assert not [server for server in stream.all("server") if server.all("access_log")]


@every_scenario
def test_there_are_file_handles_for_both_ends_of_every_connection(service: Service) -> None:
    nginx = gateway(service)
    connections = int(nginx.one("events", "worker_connections").args[0])
    assert int(nginx.one("worker_rlimit_nofile").args[0]) >= 2 * connections


@every_scenario
def test_peers_that_never_finish_their_handshake_fill_neither_the_gateway_s_memory_nor_by_one_address_its_places(service: Service) -> None:
    nginx = gateway(service)
    places_for_all = int(nginx.one("worker_processes").args[0]) * int(nginx.one("events", "worker_connections").args[0])
    handshake_mb, association_mb = 0.06, 0.25  # as measured: docs/performance.md
    both_ends = 2 * service.limits.dicom_threads
    worst = (places_for_all - both_ends) * handshake_mb + service.limits.dicom_threads * association_mb + 20
    assert worst < service.nginx.memory_mb
    # By one worker, should it have taken all of them, and with room for others' associations.
    assert service.limits.connections_per_address + both_ends < places_for_all


# -- the web page ---------------------------------------------------------------------------------------------------------


def _answer(nginx: Block, user: str, request: str, fetched_from: str = "") -> int:
    """The status that the `if`s of the location give, or 200 where the request goes on to Orthanc."""
    looks = look_up(_table(nginx, "http", "$looks"), request)
    role = look_up(_table(nginx, "http", "$role"), user)
    if role == "nobody":
        return 401
    forbidden = look_up(_table(nginx, "http", "$forbidden"), f"{role} {looks}")
    foreign = look_up(_table(nginx, "http", "$foreign"), f"{looks} {fetched_from}")
    disguised = look_up(_table(nginx, "http", "$disguised"), request.partition(" ")[2])
    return 403 if any(value not in {"", "0"} for value in (forbidden, foreign, disguised)) else 200  # what `if` takes for false


def test_the_conditions_of_the_web_page_are_the_ones_that_are_judged_here() -> None:
    location = _page(gateway(SCENARIOS["aws"]))
    conditions = [(" ".join(block.args), block.one("return").args) for block in location.all("if")]
    assert conditions == [("($role = nobody)", ("401",)), ("($forbidden)", ("403",)), ("($foreign)", ("403",)), ("($disguised)", ("403",))]


@every_scenario
def test_each_user_has_the_given_role_and_everybody_else_none(service: Service) -> None:
    table = _table(gateway(service), "http", "$role")
    assert {user.name: look_up(table, user.name) for user in service.users} == {user.name: user.role for user in service.users}
    assert {look_up(table, stranger) for stranger in ("", "probe", "orthanc", "nobody", "stranger")} == {"nobody"}


_LOOKING = (
    "GET /",
    "GET /ui/app/index.html?lang=en",
    "HEAD /system",
    "GET /dicom-web/studies?PatientName=A*&limit=10&includefield=00081030",
    "GET /studies/6a1b/archive",
    "POST /tools/find",
    "POST /tools/lookup",
    "POST /tools/count-resources?x",
)
_CHANGING = (
    "POST /instances",
    "POST /dicom-web/studies",
    "PUT /modalities/CT1",
    "DELETE /studies/6a1b",
    "PATCH /studies/6a1b",
    "POST /tools/bulk-anonymize",  # these: every other tool of Orthanc 1.13.0 that takes a POST
    "POST /tools/bulk-content",
    "POST /tools/bulk-delete",
    "POST /tools/bulk-modify",
    "POST /tools/create-archive",
    "POST /tools/create-dicom",
    "POST /tools/create-media",
    "POST /tools/dicom-echo",
    "POST /tools/execute-script",
    "POST /tools/invalidate-tags",
    "POST /tools/reconstruct",
    "POST /tools/reset",
    "POST /tools/shutdown",
    "POST /tools/find/../shutdown",
    "POST /tools/findx",
    "POST //tools/find",
    "POST /tools/FIND",
    "POST /x?/tools/find",
    "POST /tools%2ffind",
    "OPTIONS /",
    "GETX /",
    "FORGET /",
    "AHEAD /",
    "COMPOST /tools/find",
    "",
)


@pytest.mark.parametrize("request_line", _LOOKING)
def test_a_reader_may_look_as_an_admin_may(request_line: str) -> None:
    nginx = gateway(SCENARIOS["aws"])
    assert _answer(nginx, "ward-3", request_line) == 200
    assert _answer(nginx, "root.ops", request_line) == 200
    assert _answer(nginx, "stranger", request_line) == 401


@pytest.mark.parametrize("request_line", _CHANGING)
def test_only_an_admin_may_change_things(request_line: str) -> None:
    nginx = gateway(SCENARIOS["aws"])
    assert _answer(nginx, "ward-3", request_line) == 403
    assert _answer(nginx, "root.ops", request_line) == 200
    assert _answer(nginx, "stranger", request_line) == 401


# HttpServer.cpp, ExtractMethod: a GET whose decoded arguments hold _method=DELETE is a DELETE to Orthanc.
_DISGUISED = (
    "GET /studies/6a1b?_method=DELETE",
    "GET /studies/6a1b?_method=delete",
    "GET /studies/6a1b?x=1&_method=DELETE",
    "GET /modalities/CT1?_method=PUT",
    "GET /studies/6a1b?%5fmethod=DELETE",
    "GET /studies/6a1b?x&_me%74hod=DELETE",
    "GET /studies/6a1b?%5F%6D%65%74%68%6F%64=DELETE&y",
)


@pytest.mark.parametrize("request_line", _DISGUISED)
@pytest.mark.parametrize("user", ["ward-3", "root.ops"])
def test_nobody_can_disguise_a_change_as_a_look(request_line: str, user: str) -> None:
    assert _answer(gateway(SCENARIOS["aws"]), user, request_line) == 403


@pytest.mark.parametrize(
    ("request_line", "fetched_from", "status"),
    [
        ("DELETE /studies/6a1b", "cross-site", 403),
        ("POST /instances", "same-site", 403),
        ("POST /instances", "same-origin", 200),
        ("POST /instances", "none", 200),
        ("POST /instances", "", 200),  # no browser
        ("GET /", "cross-site", 200),  # a link in a mail
    ],
)
def test_a_foreign_page_cannot_use_the_password_that_the_browser_has_kept(request_line: str, fetched_from: str, status: int) -> None:
    assert _answer(gateway(SCENARIOS["aws"]), "root.ops", request_line, fetched_from) == status


@every_scenario
def test_the_method_that_was_judged_is_the_one_that_orthanc_is_told(service: Service) -> None:
    headers = _page(gateway(service)).pairs("proxy_set_header")
    assert headers["X-HTTP-Method-Override"] == ""  # to nginx: the header is not sent


@every_scenario
def test_the_web_page_is_passed_to_orthanc_under_the_name_in_its_certificate(service: Service) -> None:
    location = _page(gateway(service))
    assert location.pairs("set")["$orthanc"] == places.ORTHANC_HOST
    assert location.one("proxy_pass").args == (f"https://$orthanc:{places.ORTHANC_HTTPS_PORT}",)
    assert location.one("proxy_ssl_name").args == (places.ORTHANC_HOST,)
    assert location.one("proxy_ssl_server_name").args == ("on",)
    assert location.one("proxy_ssl_trusted_certificate").args == ("/etc/gateway/orthanc-authority.crt",)


@every_scenario
def test_uploads_and_archives_of_any_size_pass_through(service: Service) -> None:
    server = _web(gateway(service))
    assert server.one("client_max_body_size").args == ("0",)
    assert server.one("proxy_request_buffering").args == ("off",)
    assert server.one("proxy_max_temp_file_size").args == ("0",)
    assert server.one("proxy_read_timeout").args == server.one("proxy_send_timeout").args == ("1h",)


@every_scenario
def test_a_browser_comes_back_by_https_only_and_learns_no_version(service: Service) -> None:
    nginx = gateway(service)
    server = _web(nginx)
    assert nginx.one("http", "server_tokens").args == ("off",)
    for block in (server, *server.walk()):
        if block.all("add_header"):  # its own ones replace those of the server
            headers = {directive.args[0]: directive.args[1:] for directive in block.all("add_header")}
            assert headers["Strict-Transport-Security"] == ("max-age=31536000", "always")


@every_scenario
def test_failed_logins_are_slowed_and_nothing_else_is(service: Service) -> None:
    nginx = gateway(service)
    assert [block.outer.args for block in nginx.walk() if block.name == "limit_req" and block.outer] == [("@login",)]
    assert nginx.one("http", "limit_req_zone").args == ("$failed_by", "zone=failures:1m", "rate=2r/s")
    table = _table(nginx, "http", "$failed_by")
    assert table.args[0] == "$http_authorization"
    assert look_up(table, "") == ""  # nginx counts nothing under an empty key
    assert look_up(table, "Basic d3Jvbmc6") == "$binary_remote_addr"
    assert _page(nginx).one("error_page").args == ("401", "=", "@login")


@every_scenario
def test_orthancs_own_refusals_are_slowed_too_and_a_browser_asks_for_the_password_again(service: Service) -> None:
    nginx = gateway(service)
    assert _page(nginx).one("proxy_intercept_errors").args == ("on",)
    (login,) = (location for location in _web(nginx).all("location") if location.args == ("@login",))
    assert login.one("limit_req").args == ("zone=failures", "burst=20")
    assert login.one("limit_req_status").args == ("429",)
    assert login.pairs("add_header")["WWW-Authenticate"].startswith("Basic ")
    assert login.one("try_files").args[-1] == "=401"
    assert not login.all("return")  # it would come before the limit


@every_scenario
def test_a_page_of_orthanc_is_framed_by_itself_only_and_tells_neither_type_nor_address_away(service: Service) -> None:
    nginx = gateway(service)
    headers = _web(nginx).pairs("add_header")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "SAMEORIGIN"
    assert headers["Referrer-Policy"] == "same-origin"
    assert not _page(nginx).all("add_header")  # one of its own would replace them all
    assert _page(nginx).one("proxy_hide_header").args == ("Server",)


@every_scenario
def test_orthanc_learns_under_which_address_it_is_seen_and_can_answer_in_links(service: Service) -> None:
    headers = _page(gateway(service)).pairs("proxy_set_header")
    assert headers["Host"] == "$http_host"
    assert headers["Forwarded"] == "host=$http_host;proto=https"


# -- logs -----------------------------------------------------------------------------------------------------------------

# With the query in them, or taken from it, or from a header that repeats it.
_TELLING = re.compile(r"\$\{?(request|request_uri|args|arg_\w+|query_string|is_args|uri|document_uri|http_\w+|request_body|cookie_\w+)\b")


@every_scenario
def test_no_log_line_is_made_of_a_query_a_header_or_a_body(service: Service) -> None:
    formats = [block for block in gateway(service).walk() if block.name == "log_format"]
    assert [block.args[0] for block in formats] == ["dicom", "web"]
    for block in formats:
        assert block.args[1] == "escape=json"
        assert not _TELLING.search("".join(block.args[2:]))


@every_scenario
def test_every_access_is_logged_in_one_of_these_formats(service: Service) -> None:
    nginx = gateway(service)
    logs = [block for block in nginx.walk() if block.name == "access_log"]
    for block in logs:
        assert block.args in {("/dev/stdout", "dicom"), ("/dev/stdout", "web"), ("off",)}
        if block.args == ("off",):
            assert block.outer
            assert _port(block.outer) == places.GATEWAY_ALIVE_PORT
    assert _incoming(nginx).value("access_log") == ("/dev/stdout", "dicom")
    assert _web(nginx).value("access_log") == ("/dev/stdout", "web")


@every_scenario
def test_the_error_log_of_the_web_page_is_all_but_silent_because_it_would_quote_queries(service: Service) -> None:
    nginx = gateway(service)
    assert [block.args for block in nginx.one("http").walk() if block.name == "error_log"] == [("/dev/stderr", "emerg")]


@every_scenario
def test_the_logged_path_ends_where_the_query_begins(service: Service) -> None:
    table = _table(gateway(service), "http", "$path")
    assert table.args[0] == "$request_uri"
    assert look_up(table, "/dicom-web/studies?PatientName=DOE^JOHN") == "/dicom-web/studies"
    assert look_up(table, "/studies?a?b") == "/studies"
    assert look_up(table, "/plain") == "/plain"


@every_scenario
def test_the_logs_tell_who_did_what_and_how_it_ended(service: Service) -> None:
    nginx = gateway(service)
    dicom, web = ("".join(block.args[2:]) for block in nginx.walk() if block.name == "log_format")
    for variable in (
        "ssl_client_s_dn",
        "ssl_client_fingerprint",
        "calling_aet",
        "called_aet",
        "ssl_protocol",
        "ssl_cipher",
        "status",
        "bytes_received",
    ):
        assert f"${variable}" in dicom
    for variable in ("who", "request_method", "path", "ssl_protocol", "ssl_cipher", "status", "bytes_sent"):
        assert f"${variable}" in web


@every_scenario
def test_every_file_that_the_host_delivers_for_the_probe_is_the_one_that_it_reads(service: Service) -> None:
    read = set(re.findall(r'HOME / "([\w.-]+)"', render(service)["probe/probe.py"]))
    assert read == {*places.SECRETS["probe"], "modalities.json"}
