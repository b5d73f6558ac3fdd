"""`python -m operations COMMAND`: what the Makefile calls. Every error is one message that says what to do."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from laptop.demo import HOME
from laptop.tell import Trouble
from laptop.variables import number
from operations import gateway, modality
from operations.archive.exports import carry_out
from operations.archive.imports import bring_in
from operations.deployed import deployed
from operations.verify import report
from operations.verify.target import TO_VERIFY, Target, of_demo, of_stack


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m operations", description="Look after a stack from here.")
    commands = made.add_subparsers(dest="command", required=True)
    deploy = commands.add_parser("up", help="pulumi up, then wait until the host has proven the release")
    deploy.add_argument("stack", help="as pulumi knows it, like dev")
    deploy.add_argument("pulumi", nargs="*", metavar="-- OPTION", help="options for pulumi up, like --yes")
    bundle = commands.add_parser("modality", help="write a modality's certificate, key, authority and a sheet for its vendor")
    bundle.add_argument("aet", help="the enrolled modality")
    bundle.add_argument("stack", help="as pulumi knows it, like dev")
    bundle.add_argument("--certificate", type=number("CERTIFICATE", 2), metavar="NUMBER", help="the newest when not given")
    bundle.add_argument("--out", type=Path, metavar="FOLDER", help="bundles/STACK/AET-NUMBER when not given")
    gate = commands.add_parser("gateway", help="write a gateway for a site whose equipment can't do mutual TLS")
    gate.add_argument("aet", help="the enrolled modality that the gateway is")
    gate.add_argument("stack", nargs="?", help="the demo on this machine when not given")
    gate.add_argument("--from", dest="devices", metavar="AET,AET", help="who may call it (default: the gateway's own AE title)")
    gate.add_argument("--network", metavar="NET,NET", help="where they are (default: every private network)")
    gate.add_argument("--listen", metavar="ADDRESS", help="take DICOM on this address of the computer alone")
    gate.add_argument(
        "--dicom-port", type=number("DICOM_PORT", 11112), help="where equipment stores (default: 11112; beside the demo 11122)"
    )
    gate.add_argument("--direct-port", type=number("DIRECT_PORT", 11113), help="where it asks (default: 11113; beside the demo 11123)")
    gate.add_argument("--status-port", type=number("STATUS_PORT", 8048), help="its page, on the computer itself (default: 8048)")
    gate.add_argument("--queue-mb", type=number("QUEUE_MB", 50000), help="the most that may wait (default: four fifths of the disk)")
    gate.add_argument("--alarm", metavar="URL", help="post alarms there, as JSON with a 'text'")
    gate.add_argument("--certificate", type=number("CERTIFICATE", 2), metavar="NUMBER", help="the newest when not given")
    gate.add_argument("--out", type=Path, metavar="FOLDER", help="bundles/STACK/AET-gateway when not given")
    ask = commands.add_parser("verify", help="ask a running service from the outside whether it does what it shall")
    ask.add_argument("stack", nargs="?", help="the demo on this machine when not given")
    ask.add_argument("--aet", help="the modality to be: one that may store and find when not given")
    _archive_commands(commands)
    return made


def main(arguments: list[str] | None = None) -> int:
    """Exit code: what the command says; 2 when it could not be done."""
    try:
        asked = parser().parse_args(arguments)
        match asked.command:
            case "up":
                from operations.up import up  # noqa: PLC0415 - needs boto3, which a laptop that only verifies does not have

                return up(asked.stack, asked.pulumi)
            case "modality":
                modality.hand_over(asked.stack, deployed(asked.stack), asked.aet, number=asked.certificate, folder=asked.out)
            case "gateway":
                _gateway(asked)
            case _:
                return _from_outside(asked)
    except (Trouble, OSError) as trouble:
        sys.stderr.write(f"\nerror: {trouble}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return 130
    return 0


def _archive_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bring = commands.add_parser("import", help="send every DICOM file below a folder")
    bring.add_argument("folder", type=Path)
    bring.add_argument("stack", nargs="?", help="the demo on this machine when not given")
    bring.add_argument("--aet", help="the modality to be: one that may store when not given")
    bring.add_argument(
        "--parallel", type=number("PARALLEL", 4), default=4, metavar="NUMBER", help="associations at a time (default: %(default)s)"
    )
    bring.add_argument("--out", type=Path, metavar="FOLDER", help="where journal and refusals go: below imports/ when not given")
    carry = commands.add_parser("export", help="fetch every object into a file of its own")
    carry.add_argument("folder", type=Path)
    carry.add_argument("stack", nargs="?", help="the demo on this machine when not given")
    carry.add_argument(
        "--parallel", type=number("PARALLEL", 4), default=4, metavar="NUMBER", help="requests at a time (default: %(default)s)"
    )


def _gateway(asked: argparse.Namespace) -> None:
    if asked.stack is None:
        origin = gateway.of_demo(HOME, asked.aet, number=asked.certificate)
    else:
        origin = gateway.of_stack(asked.stack, deployed(asked.stack), asked.aet, number=asked.certificate)
    wishes = {
        "devices": _listed(asked.devices),
        "networks": _listed(asked.network),
        "listen": asked.listen,
        "dicom_port": asked.dicom_port,
        "direct_port": asked.direct_port,
        "status_port": asked.status_port,
        "queue_mb": asked.queue_mb,
        "alarm_url": asked.alarm,
    }
    folder = asked.out or Path("bundles") / (asked.stack or "demo") / f"{asked.aet}-gateway"
    gateway.write_gateway(origin, gateway.design(origin, wishes), folder)


def _listed(said: str | None) -> tuple[str, ...] | None:
    return None if said is None else tuple(filter(None, said.split(",")))


def _from_outside(asked: argparse.Namespace) -> int:
    """What a stack and the demo are met with alike."""
    work: Callable[[Target], int]
    aet, to = getattr(asked, "aet", None), TO_VERIFY
    match asked.command:
        case "import":
            to = frozenset({"store"})
            work = partial(bring_in, folder=asked.folder, parallel=asked.parallel, out=asked.out)
        case "export":
            work = partial(carry_out, folder=asked.folder, parallel=asked.parallel)
        case _:
            work = report
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))  # as an exception, so that what was begun is still tidied up
    if asked.stack is None:
        return work(of_demo(HOME, aet=aet, to=to))
    with TemporaryDirectory() as folder:  # readable by its owner alone
        return work(of_stack(asked.stack, deployed(asked.stack), Path(folder), aet=aet, to=to))


if __name__ == "__main__":
    sys.exit(main())
