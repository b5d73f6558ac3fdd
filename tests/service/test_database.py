"""The database is who it must be, and no acknowledged image is lost with a container or a restart."""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

import pytest

from config_templates import places
from infra.monitoring import CANCELLED
from laptop import certificates, study
from laptop.certificates import Pair
from laptop.docker import compose, container_id, docker
from laptop.site import place
from laptop.tell import Trouble
from tests.service.stack import Stack, dcmtk, eventually

PAGE = (Path(__file__).resolve().parents[2] / "docs/alarms.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _whole_again(stack: Stack) -> Iterator[None]:
    yield
    stack.converge()
    stack.wait_healthy("orthanc", 120)
    # Orthanc notices at the next image that its connection for pixels broke, and opens another.
    eventually("images are stored again", lambda: takes_an_image(stack), 30)


def takes_an_image(stack: Stack) -> bool:
    try:
        return stack.peer("CT1").store(study.series(slices=1, seed="whole again")) == 1
    except Trouble:
        return False


def show_database_certificate(stack: Stack, pair: Pair) -> None:
    """Let PostgreSQL serve with another certificate, and start Orthanc anew against it."""
    files = {**stack.site.files(stack.images), "postgres/server.crt": pair.certificate, "postgres/server.key": pair.key}
    place(stack.site, files)
    compose(stack.home, "restart", "postgres")
    stack.wait_healthy("postgres", 60)
    compose(stack.home, "restart", "orthanc")


def last_health_check(stack: Stack) -> str:
    """What Docker's health check of Orthanc said last: exit code and output."""
    form = "{{range .State.Health.Log}}{{.ExitCode}} {{.Output}}\n{{end}}"
    lines = docker("inspect", "--format", form, container_id(stack.home, "orthanc")).strip().splitlines()
    return lines[-1] if lines else ""


def profile(name: str) -> certificates.Profile:
    return certificates.Profile(kind="ecdsa", usages=("server",), names=[name], days=30)


def test_orthanc_refuses_a_database_whose_certificate_another_authority_signed(stack: Stack) -> None:
    stranger = certificates.make_authority("another authority", "ecdsa")
    pair = certificates.issue(stranger, "postgres", profile(places.DATABASE_HOST))
    with stack.logs_line("orthanc", "certificate verify failed", seconds=40):
        show_database_certificate(stack, pair)
    eventually("the health check fails and says why", lambda: last_health_check(stack).startswith("1 health: "), 30)
    assert dcmtk("echoscu", stack.peer("CT1")).returncode != 0


def test_orthanc_refuses_a_database_whose_certificate_has_another_name(stack: Stack) -> None:
    inside = stack.site.authority("inside")
    pair = certificates.issue(inside, "postgres", profile("other.inside"))
    with stack.logs_line("orthanc", r'server certificate for "other\.inside" does not match host name "database\.inside"', seconds=40):
        show_database_certificate(stack, pair)
    eventually("the health check fails and says why", lambda: last_health_check(stack).startswith("1 health: "), 30)
    assert dcmtk("echoscu", stack.peer("CT1")).returncode != 0


def test_a_database_without_tls_or_password_lets_nobody_in(stack: Stack) -> None:
    for tls, password, reason in (
        ("sslmode=disable", '"$(cat /etc/database/orthanc-password)"', "no encryption|no pg_hba.conf entry"),
        ("sslmode=require", "wrong", "password authentication failed"),
    ):
        uri = f"host={places.DATABASE_HOST} user=orthanc dbname=orthanc {tls}"
        told = stack.exec("postgres", "sh", "-c", f"PGPASSWORD={password} psql '{uri}' -c 'select 1' 2>&1; true")
        assert any(word in told for word in reason.split("|"))


def test_orthanc_s_container_and_its_files_made_anew_lose_no_study(stack: Stack) -> None:
    images = list(study.series(slices=2, seed="anew"))
    stack.peer("CT1").store(images)
    studies = sorted(str(f.StudyInstanceUID) for f in stack.peer("CT1").find_studies())
    compose(stack.home, "rm", "--stop", "--force", "orthanc")
    shutil.rmtree(stack.home / "scratch")
    stack.converge()
    assert sorted(str(f.StudyInstanceUID) for f in stack.peer("CT1").find_studies()) == studies
    for image in images:
        assert stored_pixels(stack, image.SOPInstanceUID) == hashlib.sha256(image.PixelData).hexdigest()


def stored_pixels(stack: Stack, sop_instance_uid: str) -> str:
    """The SHA-256 of an image's pixels as Orthanc has them."""
    identifier = stack.stored(sop_instance_uid)
    assert identifier, f"{sop_instance_uid} is lost"
    answer = stack.web(f"/instances/{identifier}/content/7fe0-0010/0")
    content = answer.body if answer.status == 200 else stack.web(f"/instances/{identifier}/frames/0/raw").body
    return hashlib.sha256(content).hexdigest()


def test_every_image_acknowledged_around_a_restart_of_the_database_is_there(stack: Stack) -> None:
    acknowledged: dict[str, str] = {}
    stop = threading.Event()

    def send() -> None:
        """As a scanner does: go on with the next image, over a new association when the old one broke."""
        images = study.series(slices=2000, seed="restart")
        while not stop.is_set():
            association = stack.peer("CT1").associate()
            for image in images:
                if stop.is_set() or not association.is_established:
                    break
                if getattr(association.send_c_store(image), "Status", None) == 0:
                    acknowledged[str(image.SOPInstanceUID)] = hashlib.sha256(image.PixelData).hexdigest()
            association.release() if association.is_established else time.sleep(0.5)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        eventually("the transfer has begun", lambda: len(acknowledged) > 5)
        compose(stack.home, "restart", "postgres")
        before = len(acknowledged)
        eventually("the transfer goes on by itself", lambda: len(acknowledged) > before + 10, 90)
    finally:
        stop.set()
        sender.join(120)
    assert not sender.is_alive()
    for uid, pixels in acknowledged.items():
        assert stored_pixels(stack, uid) == pixels


# A commit waits for a standby that never comes, and keeps what it has written when its session is ended meanwhile: PostgreSQL's own
# way to lose nothing but the answer. Only commits of the index wait.
COMMITS_ARE_NOT_ANSWERED = """
    CREATE FUNCTION wait_for_nobody() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN PERFORM set_config('synchronous_commit', 'on', true); RETURN NULL; END $$;
    CREATE TRIGGER wait_for_nobody AFTER INSERT ON attachedfiles EXECUTE FUNCTION wait_for_nobody();
    ALTER SYSTEM SET synchronous_commit = local;
    ALTER SYSTEM SET synchronous_standby_names = 'nobody';
    SELECT pg_reload_conf();
"""
THEY_ARE = """
    ALTER SYSTEM RESET synchronous_standby_names;
    ALTER SYSTEM RESET synchronous_commit;
    SELECT pg_reload_conf();
    DROP FUNCTION wait_for_nobody CASCADE;
"""
WAITING = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


def test_an_image_that_lost_its_pixels_to_a_failed_commit_is_found_and_healed(stack: Stack) -> None:
    """docs/alarms.md, store-cancelled: the line of the log that is watched, and what its commands do."""
    (image,) = study.series(slices=1, seed="not answered")
    (find,) = re.findall(r"""(?s)psql "\$DATABASE" -c '(select image.*?)'""", PAGE)
    (delete,) = re.findall(r'--request DELETE "\$\(pulumi [^)]*\)(\S+)"', PAGE)
    assert stack.sql(find) == ""
    stack.sql(COMMITS_ARE_NOT_ANSWERED)
    try:
        with stack.logs_line("orthanc", CANCELLED.strip('"'), seconds=90), ThreadPoolExecutor(1) as pool:
            sending = pool.submit(stack.peer("CT1").store, [image])
            eventually("the index waits for its commit", lambda: stack.sql(f"SELECT 1 {WAITING}") == "1")
            stack.sql(f"SELECT pg_terminate_backend(pid) {WAITING}")
            assert sending.exception() is not None, "it is not acknowledged"
    finally:
        stack.sql(THEY_ARE)
    stack.peer("CT1").store([image])  # acknowledged, and not there
    identifier = stack.stored(image.SOPInstanceUID)
    assert stack.web(f"/instances/{identifier}/file").status == HTTPStatus.NOT_FOUND

    found, study_found = stack.sql(find).split("|")
    assert found == identifier
    assert image.StudyInstanceUID in stack.web(f"/studies/{study_found}").body.decode()
    assert stack.web("/" + delete.replace("IMAGE", found), method="DELETE").status == 200
    stack.peer("CT1").store([image])
    assert stored_pixels(stack, image.SOPInstanceUID) == hashlib.sha256(image.PixelData).hexdigest()
    assert stack.sql(find) == ""


def test_a_rotated_password_needs_no_restart(stack: Stack) -> None:
    before = stack.containers()
    (stack.home / "keys" / "database.password").unlink()
    fresh = stack.site.password("database")
    sql = f"ALTER ROLE orthanc PASSWORD '{fresh}'"
    stack.converge()
    stack.sql(sql)
    stack.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'orthanc'")
    eventually("Orthanc is back with the new password", lambda: stack.web("/changes?last").status == 200, 60)
    assert stack.containers() == before
