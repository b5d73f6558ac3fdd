"""`make demo`: from nothing to a stored study, telling what it does."""

from __future__ import annotations

import platform
import ssl
import sys
import time
from base64 import b64encode
from http.client import HTTPSConnection
from pathlib import Path

from laptop import preflight, study, tell
from laptop.database import sql
from laptop.docker import check_engine, compose
from laptop.images import forget_standins, obtain
from laptop.peer import Peer
from laptop.running import converge, down
from laptop.site import Enrolment, Site, forget
from laptop.tell import Trouble

HOME = Path(__file__).resolve().parent.parent / ".demo"
DEMO_AET = "DEMO"
_WHERE_IT_LIES = """
SELECT (SELECT count(*) FROM resources WHERE resourcetype = 3) AS images,
       (SELECT count(*) FROM storagearea WHERE type = 1) AS stored_as_large_objects,
       pg_size_pretty(pg_total_relation_size('pg_largeobject')) AS pixels_take,
       (SELECT string_agg(DISTINCT version || ' ' || cipher, ', ') FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
         WHERE application_name = 'orthanc') AS orthanc_connects_by
"""


def run(home: Path, *, dicom_port: int | None, web_port: int | None) -> None:
    """Bring the service up and send it a study. Ports that are None stay what they were (11112 and 8443 at first)."""
    started = time.monotonic()
    check_engine()
    site = planned(home, dicom_port=dicom_port, web_port=web_port)
    preflight.check(site)

    tell.step("Images")
    images = obtain()
    tell.detail("stand-ins ('make demo-clean' forgets them and tries the registry again)" if images.standins else "the pinned ones")

    tell.step("Certificates, passwords and configuration")
    site.save()
    tell.detail(f"in {site.home}: three authorities, and a certificate for each side of every connection")

    tell.step("PostgreSQL, Orthanc and nginx")
    tell.detail("starting, until all three prove that they are healthy")
    changed = converge(site, images)
    tell.detail("running" if changed else "running already, nothing to change")

    tell.step(f"A study, sent by the modality {DEMO_AET} over mutual TLS")
    peer = Peer(aet=DEMO_AET, bundle=site.write_bundle(DEMO_AET), port=site.plan.dicom_port, called=site.plan.aet)
    if (status := peer.echo()) != 0:
        raise Trouble(f"the C-ECHO was answered with status {status:#06x}. See 'make demo-logs'.")
    tell.detail("C-ECHO: answered")
    _store(peer)
    for found in peer.find_studies():
        tell.detail(f"C-FIND: {found.PatientName!s:24} {found.StudyDescription or '(no description)'}")
    _check_web(site)

    tell.step("Where it lies: in PostgreSQL, index and pixels")
    for line in sql(home, _WHERE_IT_LIES, "--expanded", "--pset", "format=aligned").splitlines():
        tell.detail(line)

    _what_next(site, time.monotonic() - started)


def planned(home: Path, *, dicom_port: int | None, web_port: int | None) -> Site:
    """The site of `home`, or a new one, with its first modality. Nothing is written yet."""
    site = Site.load(home)
    ports = {"dicom_port": dicom_port, "web_port": web_port}
    site = site.with_plan(**{name: port for name, port in ports.items() if port is not None})
    return site if DEMO_AET in {m.aet for m in site.plan.modalities} else site.enrolled(Enrolment(aet=DEMO_AET))


def _store(peer: Peer) -> None:
    made = next(study.series(slices=1))
    already = peer.find_studies(StudyInstanceUID=made.StudyInstanceUID)
    if already and int(already[0].NumberOfStudyRelatedInstances) == study.SLICES:
        tell.detail("C-STORE: the study is there already")
        return
    tell.detail(f"C-STORE: {peer.store(study.samples())} images that come with pydicom")
    began = time.monotonic()
    count = peer.store(study.series())
    seconds = time.monotonic() - began
    tell.detail(f"C-STORE: a made series of {count} CT slices of 512 KiB, {count / seconds:.0f} a second")


def _check_web(site: Site) -> None:
    """Log in at the web page as the browser will, with its certificate verified."""
    context = ssl.create_default_context(cadata=site.authority("outside").certificate)
    login = b64encode(f"admin:{site.password('admin')}".encode()).decode()
    connection = HTTPSConnection("localhost", site.plan.web_port, context=context, timeout=30)
    try:
        connection.request("GET", "/statistics", headers={"Authorization": f"Basic {login}"})
        status = str(connection.getresponse().status)
    except OSError as error:
        status = str(error)
    finally:
        connection.close()
    if status != "200":
        raise Trouble(f"the web page answers the admin with '{status}'. See 'make demo-logs'.")
    tell.detail("HTTPS: login works")


def _what_next(site: Site, seconds: float) -> None:
    bundle = site.home / "modalities" / DEMO_AET
    authority = bundle / "authority.crt"
    dicom, web, aet = site.plan.dicom_port, site.plan.web_port, site.plan.aet
    tell.step(f"Ready, after {seconds:.0f} s")
    tell.detail(f"web page    https://localhost:{web}/")
    tell.detail(f"user        admin: password in {site.home}/keys/admin.password")
    tell.detail(f"            reader, who can only look: password in {site.home}/keys/reader.password")
    tell.detail(f"trust       the page's authority is {authority}")
    for line in _how_to_trust(authority):
        tell.detail(f"            {line}")
    tell.detail(f"DICOM       localhost:{dicom}, AE title {aet}, over mutual TLS; a modality's certificate and key: {bundle}")

    tell.step("What to try next")
    tell.detail("send an image of your own, with dcmtk:")
    tell.detail(f"    cd {bundle}")
    tell.detail(f"    storescu -aet {DEMO_AET} -aec {aet} +tls {DEMO_AET}.key {DEMO_AET}.crt +cf authority.crt localhost {dicom} FILE.dcm")
    tell.detail("let another modality in (and refuse it again):")
    tell.detail("    make demo-enrol AET=CT1        make demo-strike AET=CT1")
    tell.detail("see who did what:")
    tell.detail("    make demo-logs")
    tell.detail("stop, keeping data and keys (or leave nothing behind):")
    tell.detail("    make demo-down                 make demo-clean")


def _how_to_trust(authority: Path) -> tuple[str, ...]:
    if platform.system() == "Darwin":
        return (f"sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {authority}",)
    return (
        "Chrome, Chromium: import it in chrome://certificate-manager; Firefox: Settings, Certificates, View, Authorities",
        f"programs of Debian or Ubuntu: sudo cp {authority} /usr/local/share/ca-certificates/ && sudo update-ca-certificates",
    )


def enrol(home: Path, enrolment: Enrolment) -> None:
    """Let a modality in, while the service runs."""
    site = _existing(home).enrolled(enrolment)
    preflight.check(site)
    site.save()
    converge(site, obtain())
    tell.detail(f"{enrolment.aet} may {', '.join(enrolment.may)}; its certificate and key are in {site.write_bundle(enrolment.aet)}")


def strike(home: Path, aet: str) -> None:
    """Refuse a modality from now on; associations that are open end within the limit that the plan sets."""
    before = _existing(home)
    preflight.check(before)
    site = before.struck(aet)
    site.save()
    # Also when the plan does not know it: that may be the mark of a strike that was interrupted here.
    if not converge(site, obtain()) and site == before:
        known = ", ".join(m.aet for m in site.plan.modalities) or "none"
        raise Trouble(f"no modality {aet} is enrolled here. Enrolled: {known}.")
    tell.detail(f"{aet} is refused from now on")


def stop(home: Path) -> None:
    """Stop the containers; data and keys stay."""
    check_engine()
    if not home.exists():
        tell.detail("there is no demo here")
        return
    down(Site.load(home))
    tell.detail(f"stopped; studies stay in Docker's volume, keys in {home}. 'make demo' starts it again.")


def remove(home: Path) -> None:
    """Remove containers, studies and keys."""
    check_engine()
    if home.exists():  # otherwise a service of this name is another folder's
        down(Site.load(home), forget_data=True)
        forget(home)


def clean(home: Path) -> None:
    """Remove all that a demo made, stand-in images too."""
    there = home.exists()
    remove(home)
    forget_standins()
    gone = "containers, studies, keys and stand-in images are gone" if there else "there is no demo here; stand-in images are gone"
    tell.detail(f"{gone} (Docker itself and pulled images stay)")


def logs(home: Path) -> None:
    """Show what happened lately."""
    lines = compose(_existing(home).home, "logs", "--no-color", "--tail", "40")
    if not lines.strip():
        raise Trouble("there is no log: it goes with the containers, and the demo is stopped. 'make demo' starts it again.")
    sys.stdout.write(lines)


def _existing(home: Path) -> Site:
    check_engine()
    if not (home / "site.json").exists():
        raise Trouble("there is no demo here yet: run 'make demo' first.")
    return Site.load(home)
