"""The laptop's commands; `make` calls them. Every error is one message that says what to do."""

from __future__ import annotations

import argparse
import sys

from pydantic import ValidationError

from laptop import bench, demo
from laptop.site import Enrolment
from laptop.tell import Trouble, complaints


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m laptop", description="The imaging service on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("demo", help="bring the service up and send it a study")
    up.add_argument("--dicom-port", type=int, help="11112 at first, then what it was")
    up.add_argument("--web-port", type=int, help="8443 at first, then what it was")
    enrol = commands.add_parser("enrol", help="let a modality in")
    enrol.add_argument("aet")
    enrol.add_argument("--may", default="store,find,move,get", help="of store, find, worklist, move, get (default: %(default)s)")
    enrol.add_argument("--address", help="where it listens, if images may be sent to it")
    enrol.add_argument("--port", type=int)
    strike = commands.add_parser("strike", help="refuse a modality from now on")
    strike.add_argument("aet")
    commands.add_parser("logs", help="what happened lately")
    commands.add_parser("down", help="stop it, keeping data")
    commands.add_parser("clean", help="leave nothing behind")
    measure = commands.add_parser("bench", help="measure it against no TLS and the original's configuration")
    measure.add_argument("--quick", action="store_true", help="only show that the bench works")
    said = parser.parse_args(arguments)
    try:
        _run(said)
    except ValidationError as error:
        sys.stderr.write(f"\nerror: {complaints(error)}\n")
        return 1
    except (Trouble, OSError) as trouble:
        sys.stderr.write(f"\nerror: {trouble}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; run the same command again to go on where it stopped\n")
        return 130
    return 0


def _run(said: argparse.Namespace) -> None:
    match said.command:
        case "demo":
            demo.run(demo.HOME, dicom_port=said.dicom_port, web_port=said.web_port)
        case "enrol":
            rights = tuple(filter(None, said.may.split(",")))
            demo.enrol(demo.HOME, Enrolment(aet=said.aet, may=rights, address=said.address, port=said.port))
        case "strike":
            demo.strike(demo.HOME, said.aet)
        case "logs":
            demo.logs(demo.HOME)
        case "down":
            demo.stop(demo.HOME)
        case "clean":
            demo.clean(demo.HOME)
        case "bench":
            bench.run(bench.HOME, quick=said.quick)


if __name__ == "__main__":
    sys.exit(main())
