"""Bring a site's containers to what its files say, restarting only what changed, and take them down."""

from __future__ import annotations

import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from laptop import tell
from laptop.docker import attempt, compose, container_id, docker, running
from laptop.images import Images
from laptop.site import Site, place
from laptop.tell import Trouble

# Of Orthanc's files these need no restart: libpq reads the passfile at every connection, and other bytes of orthanc.json
# give compose.yaml another digest, upon which compose makes the container anew.
_NEED_NO_RESTART = {"orthanc/pgpass", "orthanc/orthanc.json"}


def converge(site: Site, images: Images) -> set[str]:
    """Write the site's files and make the running containers follow. Returns the names of the files that were new to them.

    What the containers have taken is written down only when all of it has succeeded: a run that was interrupted, or failed, is
    made good by the next. If nothing served before, it leaves nothing half-started; what did serve goes on.
    """
    gateway = running(site.plan.project, "nginx")
    files = site.files(images)
    placed = place(site, files)
    digests = {name: sha256(text.encode()).hexdigest() for name, text in files.items()}
    taken = site.taken()
    fresh = placed | {name for name in digests.keys() | taken.keys() if digests.get(name) != taken.get(name)}
    try:
        _follow(site, fresh, gateway)
    except BaseException as stopped:  # Ctrl-C too
        if isinstance(stopped, Trouble):
            stopped.add_note(_last_words(site.home))
        if not gateway:
            tell.detail("stopping what had been started")
            with suppress(Trouble):
                down(site)
        raise
    site.take(digests)
    return fresh


def _follow(site: Site, fresh: set[str], gateway: str) -> None:
    """Make the containers run with their files, of which `fresh` are new to them; `gateway` is the nginx that ran before.

    nginx is reloaded before Orthanc's modalities change, so that a struck one is refused at the door first, and nothing is
    sent to an outgoing port that is not open yet.
    """
    if any(name.startswith("orthanc/") for name in fresh - _NEED_NO_RESTART) and container_id(site.home, "orthanc"):
        compose(site.home, "restart", "orthanc")
    if any(name.startswith("postgres/") for name in fresh) and container_id(site.home, "postgres"):
        compose(site.home, "up", "--detach", "--wait", "--pull", "never", "postgres")
        compose(site.home, "kill", "--signal", "HUP", "postgres")
    compose(site.home, "up", "--detach", "--wait", "--remove-orphans", "--pull", "never")
    if gateway and gateway == container_id(site.home, "nginx") and any(name.startswith("nginx/") for name in fresh):
        reload_gateway(site)
    hold_modalities(site)


def reload_gateway(site: Site) -> None:
    """Let nginx take its new files without dropping an association, and return when none but new workers accept.

    Raises Trouble when nginx refuses the files; it then goes on with the old ones.
    """
    command = ("exec", "-T", "nginx", "nginx", "-c", "/etc/gateway/nginx.conf")
    compose(site.home, *command, "-q", "-t")
    old = _accepting_workers(site)
    compose(site.home, *command, "-s", "reload")
    end = time.monotonic() + 30
    while old & (now := _accepting_workers(site)) or not now:
        if time.monotonic() > end:
            raise Trouble("nginx has not taken its new configuration within 30 s. See 'make demo-logs', then run the same command again.")
        time.sleep(0.1)


def _accepting_workers(site: Site) -> set[str]:
    """The process ids of nginx's workers, without those that only end what they began (nginx renames these)."""
    script = 'for p in /proc/[0-9]*; do echo "${p#/proc/} $(tr "\\0" " " <$p/cmdline)"; done 2>/dev/null'
    listed = compose(site.home, "exec", "-T", "nginx", "sh", "-c", script)
    return {line.split()[0] for line in listed.splitlines() if line.strip().endswith("nginx: worker process")}


def hold_modalities(site: Site) -> str:
    """Make Orthanc's modalities equal to the site's, over REST. Returns what changed, a line each."""
    return compose(site.home, "exec", "-T", "orthanc", "python3", "/etc/probe/probe.py", "modalities", seconds=60)


def down(site: Site, *, forget_data: bool = False) -> None:
    """Stop and remove the containers; with `forget_data` also the database's volume."""
    # By the project's name: compose.yaml may be missing, or not whole.
    name = ("--project-name", site.plan.project)
    docker("compose", "--ansi", "never", *name, "down", "--remove-orphans", *(["--volumes"] if forget_data else []), folder=Path("/"))


def _last_words(home: Path) -> str:
    logs = attempt("compose", "--ansi", "never", "--file", str(home / "compose.yaml"), "logs", "--no-color", "--tail", "12", seconds=60)
    return logs.stdout[-4000:]
