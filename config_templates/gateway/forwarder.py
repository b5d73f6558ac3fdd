"""A site gateway's forwarder: what waits in the queue goes to the server, and people see how that stands.

`forwarder.py run`      forward, watch, and answer at port 8048: / for people, /health, /metrics, /status.json
`forwarder.py health`   exit 0 when nothing is wrong, 1 with a line for each alarm
`forwarder.py status`   how it stands, to read
`forwarder.py answers`  exit 0 when the queue answers
`forwarder.py waiting`  how many objects wait
`forwarder.py save`     what waits, as a tar of DICOM files on standard output
`forwarder.py drop ID`  give up one object that the server refuses (its ID stands in the status)

The queue is an Orthanc: an object is in it until the server has acknowledged it, and nothing else is kept anywhere. Whatever is
killed whenever, what is still there is sent again; a server that has it already acknowledges it once more. Standard library
only, Python 3.9: it runs in Orthanc's image. It knows objects by Orthanc's identifiers, and logs and shows no patient.
"""

from __future__ import annotations

import base64
import html
import http.client
import json
import os
import sys
import tarfile
import threading
import time
import urllib.request
from calendar import timegm
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

HOME = Path(__file__).resolve().parent
DISK = Path("/queue")  # a folder of the disk that the queue is on
PORT = 8048
PARALLEL = 4  # associations at once: over a long line, one waits for each acknowledgement
BATCH = 25  # objects an association
GREET_SECONDS = 60  # an idle gateway asks this often whether the server would take something
LONGEST_PAUSE = 30.0
REFUSALS_IN_A_ROW = 20  # then it is not the objects: they are not tried one by one any more
FIRST_RETRY, LONGEST_RETRY = 60.0, 3600.0  # of an object that the server refuses
TICK_SECONDS = 5
QUEUE_SECONDS = 60  # the queue's containers may start again this long before somebody has to look
REMIND_SECONDS = 6 * 3600
NEARLY = 80  # percent of the bound
LEAST_DISK_PERCENT = 5
CERTIFICATE_DAYS = 30
STORE_SECONDS = 300  # the server may take this long to acknowledge one object: a big one has to reach its disk
SEND_SECONDS = 3600  # the longest that one batch may take


class Failed(Exception):
    """Orthanc answered with an error: its HTTP status and its reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Outage(Exception):
    """The server can't be reached, or lets this gateway not in."""


class Unwilling(Outage):
    """The server answers, and takes no object."""


def log(what: str, **facts: object) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stdout.write(json.dumps({"time": stamp, "what": what, **facts}) + "\n")  # whole lines: threads log side by side
    sys.stdout.flush()


# -- the queue -------------------------------------------------------------------------------------------------------------


class Queue:
    """The queue's Orthanc over REST. OSError when it does not answer, Failed when it answers with an error."""

    def __init__(self, host: str, port: int, password: str) -> None:
        self.host, self.port = host, port
        self.login = "Basic " + base64.b64encode(("forwarder:" + password).encode()).decode()

    def _ask(self, method: str, path: str, body: object = None, seconds: float = 30) -> bytes:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=seconds)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {"Authorization": self.login})
            answer = connection.getresponse()
            content = answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"the queue broke off: {error!r}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise Failed(answer.status, _reason(content))
        return content

    def arrivals(self, since: int, limit: int) -> tuple[list[tuple[str, float]], int, bool]:
        """What arrived after change `since` and is still here, the last change that was looked at, and whether there are no more.

        Objects, oldest first, each with when it arrived (seconds since 1970). Orthanc forgets changes with their objects.
        """
        page = json.loads(self._ask("GET", f"/changes?since={since}&limit={limit}"))
        found = [(c["ID"], _seconds(c["Date"])) for c in page["Changes"] if c["ChangeType"] == "NewInstance"]
        return found, int(page["Last"]), bool(page["Done"])

    def send(self, objects: Sequence[str]) -> None:
        """C-STORE them to the server over one association; returns when it has acknowledged each of them."""
        body = {"Resources": list(objects), "Synchronous": True, "Timeout": STORE_SECONDS}
        told = json.loads(self._ask("POST", "/modalities/server/store", body, SEND_SECONDS))
        if told["FailedInstancesCount"] != 0 or told["InstancesCount"] != len(objects):
            raise Failed(500, "{} of {} were sent".format(told["InstancesCount"] - told["FailedInstancesCount"], len(objects)))

    def greet(self) -> None:
        """C-ECHO the server. Raises Outage with the reason when it does not answer."""
        try:
            self._ask("POST", "/modalities/server/echo", {"Timeout": 20}, 60)
        except Failed as failed:
            raise Outage(str(failed)) from None

    def forget(self, identifier: str) -> None:
        """Delete an object; one that is gone already is no error."""
        try:
            self._ask("DELETE", "/instances/" + identifier, seconds=120)
        except Failed as failed:
            if failed.status != 404:
                raise

    def has(self, identifier: str) -> bool:
        try:
            self._ask("GET", f"/instances/{identifier}/metadata")
        except Failed as failed:
            if failed.status != 404:
                raise
            return False
        return True

    @contextmanager
    def file(self, identifier: str) -> Iterator[tuple[IO[bytes], int]]:
        """An object as a DICOM file, to be read bit by bit: it may be bigger than this container's memory. And its size."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=600)
        try:
            connection.request("GET", f"/instances/{identifier}/file", headers={"Authorization": self.login})
            answer = connection.getresponse()
            if answer.status != 200:
                raise Failed(answer.status, _reason(answer.read()))
            yield answer, int(answer.headers["Content-Length"])
        except http.client.HTTPException as error:
            raise OSError(f"the queue broke off: {error!r}") from None
        finally:
            connection.close()

    def size(self) -> tuple[int, int]:
        """How many objects wait, and their bytes."""
        told = json.loads(self._ask("GET", "/statistics"))
        return int(told["CountInstances"]), int(told["TotalDiskSize"])

    def bound(self) -> int:
        """The bytes that may wait."""
        return int(json.loads(self._ask("GET", "/system")).get("MaximumStorageSize", 0)) * 1024 * 1024

    def waiting(self, page: int = 1000) -> Iterator[tuple[str, float]]:
        """Every object that waits, oldest first, as arrivals tells it; asked for page by page."""
        since, done = 0, False
        while not done:
            found, since, done = self.arrivals(since, page)
            yield from found


def _reason(content: bytes) -> str:
    try:
        said = json.loads(content)
        return str(said.get("Details") or said.get("Message") or said)[:300]
    except (ValueError, AttributeError):
        return content.decode(errors="replace")[:300] or "no reason given"


def _seconds(date: str) -> float:
    """Orthanc's dates are UTC, as 20261128T031500."""
    return float(timegm(time.strptime(date, "%Y%m%dT%H%M%S")))


# -- forwarding ------------------------------------------------------------------------------------------------------------


@dataclass
class Refusal:
    """An object that the server does not take, though it takes a C-ECHO: tried again, ever more rarely."""

    why: str
    tries: int
    due: float


@dataclass
class Contact:
    """What was last seen of the server: since when it answers, or not, and why not."""

    reached: bool = True
    since: float = 0.0
    why: str = ""


class Forwarder:
    """Sends what waits, oldest first, several associations at once. `step` never loses an object: it forgets only what was acknowledged."""

    def __init__(self, queue: Queue, clock: Callable[[], float] = time.time) -> None:
        self.queue, self.clock = queue, clock
        self.contact = Contact(since=clock())
        self.refused: dict[str, Refusal] = {}
        self.sent = 0
        self.last_sent = 0.0
        self._cursor = 0
        self._pause = 1.0
        self._greeted = 0.0
        self._refused_in_a_row = 0
        self._counting = threading.Lock()

    def step(self) -> float:
        """Send the next objects. Returns the seconds after which to call again. OSError when the queue does not answer."""
        objects, cursor, more = self._next()
        try:
            if objects:
                self._send_all(objects)
            elif self.clock() - self._greeted >= GREET_SECONDS or not self.contact.reached:
                self.queue.greet()
                self._reached()
                self._prune()
        except Outage as outage:
            self._lost(str(outage))
            if isinstance(outage, Unwilling):  # perhaps what stands further behind is taken
                self._cursor = cursor if more else 0
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return self._pause
        # What was sent is gone, so the oldest are always found at the start, also a change whose transaction lasted longer and that
        # stands before one that was seen already. Only past what the server refuses one has to go on.
        self._cursor = cursor if more and not objects else 0
        self._pause = 1.0
        return 0.0 if objects or more else max(1.0, len(self.refused) / 100)

    def _next(self) -> tuple[list[str], int, bool]:
        now = self.clock()
        due = [identifier for identifier, refusal in self.refused.items() if refusal.due <= now][:BATCH]
        found, cursor, done = self.queue.arrivals(self._cursor, PARALLEL * BATCH)
        fresh = [identifier for identifier, _ in found if identifier not in self.refused]
        return due + fresh, cursor, not done

    def _send_all(self, objects: Sequence[str]) -> None:
        batches = [objects[first : first + BATCH] for first in range(0, len(objects), BATCH)]
        began = self.clock()
        before = self.sent
        with ThreadPoolExecutor(PARALLEL) as pool:
            attempts = [pool.submit(self._send, batch) for batch in batches]
        if self.sent > before:
            log("forwarded", objects=self.sent - before, seconds=round(self.clock() - began, 1))
        for attempt in attempts:  # all have ended: an outage of one is no reason to leave what another has sent
            attempt.result()

    def _send(self, batch: Sequence[str]) -> None:
        try:
            self.queue.send(batch)
        except Failed:
            # While nothing is taken, one is tried: the last, because a study that is refused mostly stands before one that is not.
            for identifier in reversed(batch) if self._refused_in_a_row >= REFUSALS_IN_A_ROW else batch:
                self._send_one(identifier)
        else:
            self._acknowledged(batch)

    def _send_one(self, identifier: str) -> None:
        try:
            self.queue.send([identifier])
        except Failed as failed:
            if failed.status == 404 and not self.queue.has(identifier):  # dropped meanwhile
                self.refused.pop(identifier, None)
                return
            self.queue.greet()  # an Outage is nobody's fault
            tries = self.refused[identifier].tries + 1 if identifier in self.refused else 1
            pause = min(FIRST_RETRY * 2 ** (tries - 1), LONGEST_RETRY)
            self.refused[identifier] = Refusal(str(failed), tries, self.clock() + pause)
            log("refused", object=identifier, tries=tries, why=str(failed))
            self._refused_in_a_row += 1
            if self._refused_in_a_row >= REFUSALS_IN_A_ROW:
                raise Unwilling(f"it refuses every object: {failed}") from None
            self._reached()
        else:
            self._acknowledged([identifier])

    def _acknowledged(self, objects: Sequence[str]) -> None:
        self._reached()
        if self._refused_in_a_row >= REFUSALS_IN_A_ROW:  # it was not the objects: they need not wait for their hour
            for refusal in list(self.refused.values()):
                refusal.due = self.clock()
        self._refused_in_a_row = 0
        for identifier in objects:
            self.queue.forget(identifier)
            self.refused.pop(identifier, None)
        with self._counting:
            self.sent += len(objects)
        self.last_sent = self.clock()

    def _prune(self) -> None:
        """Forget refusals of what somebody has dropped."""
        for identifier in list(self.refused)[:100]:
            if not self.queue.has(identifier):
                self.refused.pop(identifier, None)

    def _reached(self) -> None:
        self._greeted = self.clock()
        if not self.contact.reached:
            log("server reached again", after_seconds=round(self.clock() - self.contact.since))
            self.contact = Contact(since=self.clock())

    def _lost(self, why: str) -> None:
        if self.contact.reached:
            log("server not reached", why=why)
            self.contact = Contact(reached=False, since=self.clock(), why=why)
        else:
            self.contact.why = why


# -- how it stands ---------------------------------------------------------------------------------------------------------


@dataclass
class Status:
    """How the gateway stands at one moment. Times in seconds since 1970, sizes in bytes."""

    now: float
    aet: str
    server: str
    certificate_ends: float
    late_minutes: int
    contact: Contact
    answered: float = 0.0  # when the queue last did
    waiting: int = 0
    size: int = 0
    bound: int = 0
    oldest: float | None = None
    disk: int = 1
    disk_free: int = 1
    sent: int = 0
    last_sent: float = 0.0
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    stale: bool = False  # nobody has looked for long

    @property
    def percent(self) -> int:
        return 100 * self.size // self.bound if self.bound else 0

    def alarms(self) -> Mapping[str, str]:
        """What somebody has to look at: its kind, and what it means."""
        return dict(self._alarms())

    def _alarms(self) -> Iterator[tuple[str, str]]:
        late = self.late_minutes * 60
        if self.stale:
            yield "forwarder", "the forwarder hangs, and what it says is old. Look at ./gateway logs"
        if self.now - self.answered > QUEUE_SECONDS:
            yield "queue", "the queue does not answer: equipment can't store. Look at ./gateway logs"
        if not self.contact.reached and self.now - self.contact.since > late:
            yield "server", f"{self.server} has not been reached for {_span(self.now - self.contact.since)}: {self.contact.why}"
        if self.oldest is not None and self.now - self.oldest > late:
            yield "late", f"the oldest object has waited {_span(self.now - self.oldest)}"
        if self.refused:
            why = next(iter(self.refused.values())).why
            yield "refused", f"{self.server} refuses {len(self.refused)} of the objects that wait: {why}"
        if self.percent >= NEARLY:
            yield "full", f"the queue is {self.percent} % full: when it is full, equipment's images are refused"
        if 100 * self.disk_free < LEAST_DISK_PERCENT * self.disk:
            yield "disk", f"the disk has {_size(self.disk_free)} left: make room, or images are refused"
        days = (self.certificate_ends - self.now) / 86400
        if days < CERTIFICATE_DAYS:
            yield "certificate", "the certificate {}: renew it".format(f"ends in {days:.0f} days" if days > 0 else "has ended")

    def lines(self) -> list[str]:
        """For people."""
        reach = "answers" if self.contact.reached else f"not reached for {_span(self.now - self.contact.since)}: {self.contact.why}"
        last = f"{_span(self.now - self.last_sent)} ago" if self.last_sent else "never since the start"
        oldest = "" if self.oldest is None else f", the oldest for {_span(self.now - self.oldest)}"
        return [
            f"gateway      {self.aet}",
            f"server       {self.server}: {reach}",
            f"waiting      {self.waiting} objects, {_size(self.size)}{oldest}",
            f"queue        {self.percent} % of {_size(self.bound)}; the disk has {_size(self.disk_free)} left",
            f"forwarded    {self.sent} since the start, the last one {last}",
            "certificate  ends {}".format(time.strftime("%Y-%m-%d", time.gmtime(self.certificate_ends))),
            *(f"refused      {i}: {r.why} ({r.tries} tries)" for i, r in list(self.refused.items())[:20]),
            *("ALARM        " + alarm for alarm in self.alarms().values()),
        ]

    def page(self) -> str:
        """For a browser."""
        alarms = self.alarms()
        head = "<meta charset=utf-8><meta http-equiv=refresh content=10><title>{}</title>".format(html.escape("Gateway " + self.aet))
        style = (
            "<style>body{font:16px/1.5 sans-serif;margin:2em}pre{font:14px/1.6 monospace;white-space:pre-wrap}.bad{color:#b00020}</style>"
        )
        verdict = f"<p class=bad>{len(alarms)} to look at</p>" if alarms else "<p>All is well.</p>"
        body = html.escape("\n".join(self.lines()))
        return "<!doctype html>{}{}<h1>{}</h1>{}<pre>{}</pre>".format(head, style, html.escape("Gateway " + self.aet), verdict, body)

    def metrics(self) -> str:
        """In Prometheus' text format."""
        values = {
            "alarms": len(self.alarms()),
            "waiting_objects": self.waiting,
            "waiting_bytes": self.size,
            "waiting_oldest_seconds": round(self.now - self.oldest) if self.oldest is not None else 0,
            "queue_bound_bytes": self.bound,
            "disk_free_bytes": self.disk_free,
            "refused_objects": len(self.refused),
            "forwarded_objects_total": self.sent,
            "server_reached": int(self.contact.reached),
            "certificate_seconds": round(self.certificate_ends - self.now),
        }
        return "".join(f"orthanc_gateway_{name} {value}\n" for name, value in values.items())

    def json(self) -> str:
        return json.dumps(
            {
                "alarms": list(self.alarms().values()),
                "lines": self.lines(),
                "queue": self.answered == self.now,
                "refused": list(self.refused),
            }
        )


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


class _Unmoved(urllib.request.HTTPRedirectHandler):
    """What is posted to an address that has moved is an error: it would be asked for there instead, without the text."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Watch:
    """Looks every few seconds how it stands, and tells when alarms come and go."""

    def __init__(self, queue: Queue, forwarder: Forwarder, said: Mapping[str, Any], disk: Path = DISK) -> None:
        self.queue, self.forwarder, self.said, self.disk = queue, forwarder, said, disk
        self._told: set[str] | None = None  # nothing yet: its first word shows that it can be heard
        self._told_at = 0.0
        self._logged: set[str] = set()
        self._not_posted = ""
        self._bound = 0
        self._answered = forwarder.clock()
        self.status = self._look(None)

    def _look(self, before: Status | None) -> Status:
        disk = os.statvfs(self.disk)
        status = Status(
            now=self.forwarder.clock(),
            aet=self.said["aet"],
            server=self.said["server"],
            certificate_ends=self.said["certificate_ends"],
            late_minutes=self.said["late_minutes"],
            answered=self._answered,
            contact=self.forwarder.contact,
            disk=disk.f_blocks * disk.f_frsize,
            disk_free=disk.f_bavail * disk.f_frsize,
            sent=self.forwarder.sent,
            last_sent=self.forwarder.last_sent,
            refused=dict(self.forwarder.refused),
        )
        try:
            status.waiting, status.size = self.queue.size()
            self._bound = status.bound = self._bound or self.queue.bound()
            status.oldest = next((when for _, when in self.queue.waiting(page=20)), None)
            status.answered = self._answered = status.now
        except (OSError, Failed, ValueError):
            self._bound = 0  # it may come back with another
            if before is not None:  # what waited still waits
                status.waiting, status.size, status.bound, status.oldest = before.waiting, before.size, before.bound, before.oldest
        return status

    def seen(self) -> Status:
        """How it stood at the last look, which says of itself when that is long ago."""
        return replace(self.status, stale=self.forwarder.clock() - self.status.now > 12 * TICK_SECONDS)

    def tick(self) -> None:
        self.status = status = self._look(self.status)
        alarms = status.alarms()
        well = "started, and all is well" if self._told is None else "all is well again"
        remind = bool(alarms) and status.now - self._told_at > REMIND_SECONDS
        if set(alarms) == self._told and not remind:
            return
        if alarms.keys() != self._logged:
            log("alarm", alarms=list(alarms.values())) if alarms else log("all is well again")
            self._logged = set(alarms)
        if not self.said["alarm_url"] or self._post("; ".join(alarms.values()) or well):
            self._told, self._told_at = set(alarms), status.now

    def _post(self, text: str) -> bool:
        body = json.dumps({"text": "gateway {}: {}".format(self.said["aet"], text)}).encode()
        request = urllib.request.Request(self.said["alarm_url"], body, {"Content-Type": "application/json"})
        try:
            with urllib.request.build_opener(_Unmoved).open(request, timeout=20):
                self._not_posted = ""
                return True
        except (OSError, http.client.HTTPException) as error:  # tried again at the next look
            if repr(error) != self._not_posted:
                self._not_posted = repr(error)
                log("alarm not posted", why=self._not_posted)
            return False


def _serve(watch: Watch) -> ThreadingHTTPServer:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = watch.seen()
            alarms = list(status.alarms().values())
            answers: Mapping[str, tuple[int, str, str]] = {
                "/": (200, "text/html", status.page()),
                "/health": (503 if alarms else 200, "text/plain", "\n".join(alarms or ["all is well"]) + "\n"),
                "/metrics": (200, "text/plain", status.metrics()),
                "/status.json": (200, "application/json", status.json()),
            }
            code, kind, text = answers.get(self.path, (404, "text/plain", "there are /, /health, /metrics and /status.json\n"))
            content = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", kind + "; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Looking is not worth a line."""

    return ThreadingHTTPServer(("", PORT), Page)


# -- commands --------------------------------------------------------------------------------------------------------------


def _queue() -> Queue:
    return Queue("orthanc", 8042, (HOME / "password").read_text(encoding="utf-8").strip())


def run() -> int:
    said = json.loads((HOME / "gateway.json").read_text(encoding="utf-8"))
    queue = _queue()
    forwarder = Forwarder(queue)
    watch = Watch(queue, forwarder, said)
    threading.excepthook = _dead
    threading.Thread(target=_serve(watch).serve_forever, daemon=True).start()
    threading.Thread(target=_for_ever, args=(watch.tick, TICK_SECONDS), daemon=True).start()
    _for_ever(forwarder.step, 0)
    return 0


def _dead(what: threading.ExceptHookArgs) -> None:
    """A thread ended by what nobody foresaw: all ends, or nobody would watch any more. Docker starts it again."""
    sys.__excepthook__(what.exc_type, what.exc_value or what.exc_type(), what.exc_traceback)
    os._exit(1)


def _for_ever(do: Callable[[], float | None], pause: float) -> None:
    told = ""
    while True:
        try:
            wait = do()
            told = ""
        except (OSError, Failed, ValueError, KeyError) as error:
            wait = 2.0
            if str(error) != told:
                told = str(error)
                log("the queue does not answer", why=told)
        time.sleep(wait or pause)


def _asked(path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=8)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def health() -> int:
    status, text = _asked("/health")
    sys.stdout.write(text)
    return 0 if status == 200 else 1


def status() -> int:
    sys.stdout.write("\n".join(json.loads(_asked("/status.json")[1])["lines"]) + "\n")
    return 0


def answers() -> int:
    return 0 if json.loads(_asked("/status.json")[1])["queue"] else 1


def waiting() -> int:
    sys.stdout.write(f"{_queue().size()[0]}\n")
    return 0


def save() -> int:
    queue = _queue()
    count = 0
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for identifier, arrived in queue.waiting():
            try:
                with queue.file(identifier) as (content, size):
                    entry = tarfile.TarInfo(identifier + ".dcm")
                    entry.size, entry.mtime, entry.mode = size, int(arrived), 0o600
                    archive.addfile(entry, content)
            except Failed as failed:
                if failed.status == 404 and not queue.has(identifier):  # gone on to the server meanwhile
                    continue
                sys.stderr.write(f"NOT SAVED: {identifier} can't be read: {failed}\n")  # no reason to save none of the others
            else:
                count += 1
    sys.stderr.write(f"{count} objects saved; they still wait\n")
    return 0


def drop(identifier: str) -> int:
    if identifier not in json.loads(_asked("/status.json")[1])["refused"]:
        sys.stderr.write(f"error: the server does not refuse {identifier}: only what it refuses can be dropped (./gateway status)\n")
        return 1
    _queue().forget(identifier)
    sys.stdout.write(f"dropped {identifier}\n")
    return 0


def main(arguments: Sequence[str]) -> int:
    commands: Mapping[str, Callable[[], int]] = {f.__name__: f for f in (run, health, status, answers, waiting, save)}
    try:
        if len(arguments) == 1 and arguments[0] in commands:
            return commands[arguments[0]]()
        if len(arguments) == 2 and arguments[0] == "drop":
            return drop(arguments[1])
    except (OSError, Failed) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stderr.write("usage: forwarder.py run | health | status | answers | waiting | save | drop ID\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
