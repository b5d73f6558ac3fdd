"""The laptop's commands; `make` calls them. Every error is one line that says what is wrong, why, and what to do."""

from __future__ import annotations

import argparse
import errno
import sys
from pathlib import Path
from textwrap import indent

from pydantic import ValidationError

from laptop import backup, bench, demo
from laptop.site import Enrolment
from laptop.tell import Trouble, complaints
from laptop.variables import number

_FULL = "The disk is full, or your share of it. Make room, and run the same command again."
_FOREIGN = "It is another user's: run this as the one who ran 'make demo' first."
_REMEDIES = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EACCES: _FOREIGN, errno.EPERM: _FOREIGN}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m laptop", description="The imaging service on this machine.")
    commands = made.add_subparsers(dest="command", required=True)
    up = commands.add_parser("demo", help="bring the service up and send it a study")
    enrol = commands.add_parser("enrol", help="let a modality in")
    enrol.add_argument("aet", help="its AE title: 1 to 16 letters, digits, '_', '-', '.'")
    enrol.add_argument("--may", default="store,find,move,get", help="of store, find, worklist, move, get (default: %(default)s)")
    enrol.add_argument("--address", help="where it listens, if images may be sent to it")
    enrol.add_argument("--port", type=number("PORT", 104), help="its DICOM TLS port there")
    keep = commands.add_parser("backup", help="copy all studies into one file")
    keep.add_argument("file", type=Path, help="a new one")
    restore = commands.add_parser("restore", help="bring a service up that holds what a backup holds")
    restore.add_argument("file", type=Path, help="what backup has written")
    for ported in (up, restore):
        ported.add_argument("--dicom-port", type=number("DICOM_PORT", 11112), help="11112 at first, then what it was")
        ported.add_argument("--web-port", type=number("WEB_PORT", 8443), help="8443 at first, then what it was")
    strike = commands.add_parser("strike", help="refuse a modality from now on")
    strike.add_argument("aet", help="its AE title")
    commands.add_parser("logs", help="what happened lately")
    commands.add_parser("down", help="stop it, keeping data")
    commands.add_parser("clean", help="leave nothing behind")
    measure = commands.add_parser("bench", help="measure it against no TLS and the original's configuration (docs/performance.md)")
    measure.add_argument("--quick", action="store_true", help="only show that the bench works")
    return made


def obey(arguments: list[str] | None) -> int:
    try:
        _carry_out(parser().parse_args(arguments))
    except ValidationError as error:
        return _complain(complaints(error))
    except Trouble as trouble:
        for note in getattr(trouble, "__notes__", ()):
            sys.stderr.write("\n" + indent(note, "    | ") + "\n")
        return _complain(str(trouble))
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "Mend that, and run the same command again.")
        return _complain(f"{error.filename}: {error.strerror}. {remedy}" if error.filename else f"{error}. {remedy}")
    return 0


def _complain(text: str) -> int:
    sys.stderr.write(f"\nerror: {text}\n")
    return 1


def _carry_out(said: argparse.Namespace) -> None:
    match said.command:
        case "demo":
            demo.run(demo.HOME, dicom_port=said.dicom_port, web_port=said.web_port)
        case "enrol":
            rights = tuple(filter(None, said.may.split(",")))
            demo.enrol(demo.HOME, Enrolment(aet=said.aet, may=rights, address=said.address, port=said.port))
        case "strike":
            demo.strike(demo.HOME, said.aet)
        case "backup":
            backup.back_up(demo.HOME, said.file)
        case "restore":
            backup.restore(demo.HOME, said.file, dicom_port=said.dicom_port, web_port=said.web_port)
        case "logs":
            demo.logs(demo.HOME)
        case "down":
            demo.stop(demo.HOME)
        case "clean":
            demo.clean(demo.HOME)
        case "bench":
            bench.run(bench.HOME, quick=said.quick)
