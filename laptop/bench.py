"""`make bench`: the service against itself without TLS and against the original's configuration, side by side on this machine.

All three run at once, but two of them are paused while one is measured: the same transfer goes to one after the other, and
only the ratios of such neighbours count. What else the machine does meanwhile then falls on all alike.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, permutations, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from laptop import bench_clients, bench_images, tell
from laptop.bench_clients import Target
from laptop.bench_images import Batch
from laptop.bench_table import SLICES_OF_A_STUDY, Findings, Memory, Round, Row, cramped, missed, report
from laptop.bench_variants import THIS, VARIANTS, Files, Variant
from laptop.database import sql
from laptop.docker import attempt, check_engine, compose, container_id, docker, killed_for_memory
from laptop.images import Images, obtain
from laptop.peer import Peer
from laptop.running import converge, down
from laptop.site import Enrolment, Plan, Site, own_names
from laptop.tell import Trouble

HOME: Final = Path(__file__).resolve().parent.parent / ".bench"
# In every order once: what one leaves to be written to the disk falls on the next.
ORDERS: Final = tuple(permutations(VARIANTS))
ROWS: Final[Sequence[Row]] = (
    # The row that the last line tells of, a study a turn: many turns, because what else a machine does comes and goes within seconds.
    Row(what="C-STORE", kind="CT", associations=1, images=SLICES_OF_A_STUDY, turns=4),
    Row(what="C-STORE", kind="CT", associations=1, images=60, prompt=False),
    Row(what="C-STORE", kind="CT", associations=4, images=40),
    Row(what="C-STORE", kind="CT", associations=4, images=30, prompt=False),
    Row(what="C-STORE", kind="CR", associations=1, images=6),
    Row(what="C-STORE", kind="CR", associations=1, images=4, prompt=False),
    Row(what="C-STORE", kind="CR", associations=4, images=2),
    Row(what="C-STORE", kind="CR", associations=4, images=2, prompt=False),
    # Series of the first row: later ones have pushed them out of Orthanc's cache of 128 MB.
    Row(what="C-GET", kind="CT", associations=1, images=SLICES_OF_A_STUDY),
    Row(what="WADO", kind="CT", associations=1, images=SLICES_OF_A_STUDY),
)
# One association: several are refused now and then by an old PostgreSQL plugin, which knows serializable transactions alone.
SMALL: Final = Row(what="C-STORE", kind="small", associations=1, images=10000)
# Before every transfer, and not measured: who was paused finds processor and memory cold.
WARM_UP: Final = Row(what="C-STORE", kind="CT", associations=1, images=40)
_AET = "BENCH"
_FIRST_PORT = 31112
_SERVICES = ("orthanc", "nginx", "postgres")
_NEEDS_GB = 30  # three databases with their write-ahead logs, and the files that are sent
_MEGABYTES: Mapping[str, float] = {"": 1e-6, "K": 1 / 1024, "M": 1, "G": 1024}


@dataclass(frozen=True)
class _BenchSite(Site):
    """A site whose rendered files are changed before they are placed."""

    variant: Variant

    def files(self, images: Images) -> Files:
        return self.variant.change(super().files(images))


@dataclass(frozen=True, kw_only=True)
class _Running:
    variant: Variant
    home: Path
    target: Target
    containers: tuple[str, ...]

    @contextlib.contextmanager
    def awake(self) -> Iterator[Target]:
        docker("unpause", *self.containers)
        try:
            yield self.target
        finally:
            docker("pause", *self.containers)

    def tidy(self) -> None:
        """What PostgreSQL would do by itself now and then, at a moment that is not measured (bench_variants.on_the_bench)."""
        sql(self.home, "VACUUM (ANALYZE)")
        sql(self.home, "CHECKPOINT")

    def memory(self, peaks_mb: Mapping[str, float]) -> Mapping[str, Memory]:
        """How its containers, awake, got along with theirs; `peaks_mb` are what was seen of it."""

        def of(service: str, container: str) -> Memory:
            limit, restarts = map(int, docker("inspect", "--format", "{{.HostConfig.Memory}} {{.RestartCount}}", container).split())
            killed = killed_for_memory(self.home, service)
            return Memory(peak_mb=peaks_mb[service], limit_mb=limit / 2**20, killed=killed, restarts=restarts)

        return {service: of(service, container) for service, container in zip(_SERVICES, self.containers, strict=True)}

    def sizes(self) -> tuple[int, int]:
        """Bytes in the database, and bytes that its write-ahead log has ever held."""
        database, log = "SELECT pg_database_size('orthanc')", "SELECT (pg_current_wal_lsn() - '0/0')::bigint"
        return int(sql(self.home, database)), int(sql(self.home, log))


@dataclass
class _Supply:
    """Batches that nobody has yet, and how much they come to."""

    folder: Path
    series: int = 0
    images: int = 0
    bytes: int = 0

    def batches(self, row: Row) -> list[Batch]:
        """One for each association."""
        made = []
        for _ in range(row.associations):
            self.series += 1
            folder = self.folder / str(self.series)
            made.append(bench_images.batch(row.kind, serial=self.series, images=row.images, folder=folder))
        self.images += sum(batch.images for batch in made)
        self.bytes += sum(batch.bytes for batch in made)
        return made

    def forget_files(self) -> None:
        for folder in self.folder.iterdir():
            shutil.rmtree(folder)


def run(home: Path, *, quick: bool = False) -> None:
    """Measure and print. `quick` sends two images once in each row: it shows that the bench works, not how fast anything is."""
    check_engine()
    free_gb = shutil.disk_usage(home.parent).free / 1e9
    if not quick and free_gb < _NEEDS_GB:
        raise Trouble(f"the bench writes some {_NEEDS_GB} GB, and {free_gb:.0f} GB are free: make room, or try it with QUICK=1")
    rows, warm_up, small = ROWS, WARM_UP, SMALL
    if quick:
        rows, warm_up, small = tuple(replace(row, images=2, turns=1) for row in ROWS), replace(WARM_UP, images=1), replace(SMALL, images=10)
    tell.step("The service, the service without TLS, and the original's configuration, side by side")
    load = os.getloadavg()[0]
    with contextlib.ExitStack() as cleanup:
        supply = _Supply(Path(cleanup.enter_context(TemporaryDirectory(prefix="bench-"))))
        running = cleanup.enter_context(_all_variants(home, obtain()))
        this = next(one for one in running if one.variant == THIS)
        peaks = cleanup.enter_context(_memory(this))
        before = this.sizes()
        for one in running:
            docker("pause", *one.containers)
        measured = _measure(rows, warm_up, running, supply, ORDERS[:1] if quick else ORDERS)
        for one in running:
            with one.awake():
                _check_nothing_is_lost(one, supply.images)
        tell.detail(f"{small.associations * small.images} small images")
        batches = supply.batches(small)
        with this.awake() as target:
            seconds = bench_clients.store(target, batches, prompt=True)
            _check_nothing_is_lost(this, supply.images)
            grown = [now - then for now, then in zip(this.sizes(), before, strict=True)]
            time.sleep(2)  # a last look at the memory
            memory = this.memory(peaks)
        findings = Findings(
            processors=os.cpu_count() or 0,
            load=load,
            small=small.rate(seconds),
            memory=memory,
            database_bytes=grown[0] / supply.bytes,
            log_bytes=grown[1] / supply.bytes,
        )
    conclude(measured, findings, quick=quick)


def conclude(measured: Mapping[Row, Sequence[Round]], findings: Findings, *, quick: bool) -> None:
    """Print what was found, and raise Trouble when memory was short or, unless `quick`, when an aim is missed."""
    sys.stdout.write("\n" + "\n".join(report(measured, findings)) + "\n")
    sys.stdout.flush()  # before the error
    if found := cramped(findings.memory):
        raise Trouble(f"memory was short: {'; '.join(found)}. Raise the limit in laptop/site.py, or find what takes it.")
    if not quick and (found := missed(next(iter(measured.values())))):
        raise Trouble(f"the aim is missed: {'; '.join(found)}. On a machine that is busy besides, try again; else docs/performance.md.")


@contextlib.contextmanager
def _all_variants(home: Path, images: Images) -> Iterator[Sequence[_Running]]:
    """All variants, healthy; nothing of them is left behind."""
    sites = [_site(home / variant.name, _FIRST_PORT + 10 * number, variant) for number, variant in enumerate(VARIANTS)]
    try:
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(converge, site, images) for site in sites]:
                done.result()
        yield [_running(site) for site in sites]
    finally:
        for site in sites:
            if (site.home / "compose.yaml").exists():
                for service in _SERVICES:
                    attempt("unpause", container_id(site.home, service))  # what is paused can't be stopped
                compose(site.home, "kill")
                down(site, forget_data=True)
        shutil.rmtree(home, ignore_errors=True)


def _site(home: Path, port: int, variant: Variant) -> _BenchSite:
    modality = Enrolment(aet=_AET, may=("store", "get"))
    return _BenchSite(
        home, Plan(project=f"orthanc-bench-{variant.name}", dicom_port=port, web_port=port + 1, modalities=(modality,)), variant
    )


def _running(site: _BenchSite) -> _Running:
    port = site.plan.dicom_port
    return _Running(
        variant=site.variant,
        home=site.home,
        target=Target(
            peer=Peer(aet=_AET, bundle=site.write_bundle(_AET), port=port, host=_own_address(port)),
            web_port=site.plan.web_port,
            password=site.password("reader"),
            encrypted=site.variant.encrypted,
        ),
        containers=tuple(container_id(site.home, service) for service in _SERVICES),
    )


def _own_address(port: int) -> str:
    """How this machine is reached from outside, if it is: what goes to localhost takes a detour through Docker's own proxy."""
    for name in reversed(own_names()):
        with contextlib.suppress(OSError):
            socket.create_connection((name, port), 2).close()
            return name
    raise Trouble(f"nothing answers on port {port} of this machine")


def _measure(
    rows: Sequence[Row], warm_up: Row, running: Sequence[_Running], supply: _Supply, orders: Sequence[Sequence[Variant]]
) -> Mapping[Row, Sequence[Round]]:
    """The seconds that every row took in every round. A round before them, of the first row alone, fills caches and pools."""
    measured: dict[Row, list[Round]] = defaultdict(list)
    for turn, order in enumerate((VARIANTS, *orders)):
        tell.detail(f"round {turn} of {len(orders)}" if turn else "warming up")
        for one in running:
            with one.awake():
                one.tidy()
        stored: list[Batch] = []
        for row in chain.from_iterable(repeat(row, row.turns) for row in rows) if turn else rows[:1]:
            warming = supply.batches(warm_up)
            if row.what == "C-STORE":
                batches = supply.batches(row)
                stored += batches
            else:
                batches = [stored.pop(0)]
            seconds = {}
            for one in sorted(running, key=lambda one: order.index(one.variant)):
                os.sync()  # nobody waits for what others wrote
                with one.awake() as target:
                    _transfer(warm_up, target, warming)
                    seconds[one.variant.name] = _transfer(row, target, batches)
            if turn:
                measured[row].append(seconds)
            supply.forget_files()
    return measured


def _transfer(row: Row, target: Target, batches: Sequence[Batch]) -> float:
    match row.what:
        case "C-STORE":
            return bench_clients.store(target, batches, prompt=row.prompt)
        case "C-GET":
            return bench_clients.get(target, batches[0])
        case "WADO":
            return bench_clients.wado(target, batches[0])


def _check_nothing_is_lost(one: _Running, images: int) -> None:
    """Fast is what stores: every image that was acknowledged is in the database."""
    kept = int(sql(one.home, "SELECT count(*) FROM resources WHERE resourcetype = 3"))
    if kept != images:
        raise Trouble(f"{images} images were sent to {one.variant.title}, and it holds {kept}")


@contextlib.contextmanager
def _memory(one: _Running) -> Iterator[Mapping[str, float]]:
    """The most memory that each container was seen to use, in MB, as `docker stats` counts it every second."""
    peaks = dict.fromkeys(_SERVICES, 0.0)
    command = ["docker", "stats", "--no-trunc", "--format", "{{.ID}} {{.MemUsage}}", *one.containers]
    services = dict(zip(one.containers, _SERVICES, strict=True))

    def read(lines: Iterator[str]) -> None:
        for line in lines:
            for container, amount, unit in re.findall(r"([0-9a-f]{64}) ([0-9.]+)([KMG]?)i?B /", line):
                service = services[container]
                peaks[service] = max(peaks[service], float(amount) * _MEGABYTES[unit])

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as looking:
        reader = threading.Thread(target=read, args=(iter(looking.stdout or ()),))
        reader.start()
        try:
            yield peaks
        finally:
            looking.kill()  # asked to end politely, some versions wait for containers that are paused
            reader.join()
