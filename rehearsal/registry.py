"""An image registry, spoken to by TLS and digest as any: Debian's docker-registry."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from laptop.certificates import Pair
from laptop.docker import docker
from rehearsal.servers import Address, Forwarder, running

HOST: Final = "registry.rehearsal.test"
PROGRAM: Final = "docker-registry"


@dataclass(frozen=True, kw_only=True)
class Registry:
    port: int  # at HOST for the hosts, on 127.0.0.1 for this machine's Docker

    def push(self, image: str, name: str) -> str:
        """Make a local image known as `name`. Returns the reference, by digest, under which hosts find it."""
        here = f"127.0.0.1:{self.port}/{name}"
        docker("tag", image, here)
        try:
            docker("push", "--quiet", here, seconds=900)
            (digest,) = {
                d.partition("@")[2]
                for d in json.loads(docker("image", "inspect", "--format", "{{json .RepoDigests}}", here))
                if d.startswith(f"{here}@")
            }
        finally:
            docker("rmi", "--no-prune", here)
        return f"{HOST}:{self.port}/{name}@{digest}"

    def build(self, dockerfile: str, name: str) -> str:
        """Push what a Dockerfile without files makes, such as a broken release of Orthanc: 'FROM IMAGE' and how it breaks."""
        image = docker("build", "--quiet", "--network", "host", "-", stdin=dockerfile, seconds=900).strip().splitlines()[-1]
        try:
            return self.push(image, name)
        finally:
            docker("rmi", image)


@contextmanager
def serving(address: str, pair: Pair, home: Path) -> Iterator[Registry]:
    """A registry on `address` that forgets all at the end. Docker trusts 127.0.0.0/8 without a certificate: there one pushes."""
    home.mkdir()
    (home / "crt").write_text(pair.certificate, encoding="utf-8")
    (home / "key").write_text(pair.key, encoding="utf-8")
    with socket.create_server((address, 0)) as free:
        port: int = free.getsockname()[1]
    # JSON is YAML.
    configuration = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(home / "images")}},
        "http": {"addr": f"{address}:{port}", "tls": {"certificate": str(home / "crt"), "key": str(home / "key")}},
    }
    (home / "config.yml").write_text(json.dumps(configuration), encoding="utf-8")
    onward: Address = (address, port)
    with (
        (home / "log").open("wb") as log,
        subprocess.Popen([PROGRAM, "serve", str(home / "config.yml")], stdout=log, stderr=log) as process,
        running(Forwarder(("127.0.0.1", port), lambda: onward)),
    ):
        try:
            _wait(onward)
            yield Registry(port=port)
        finally:
            process.terminate()
            process.wait(30)
            shutil.rmtree(home, ignore_errors=True)


def _wait(address: Address) -> None:
    for _ in range(100):
        try:
            socket.create_connection(address, 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError("the image registry did not start")
