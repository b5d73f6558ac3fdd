"""`python -m operations up STACK`: what the Makefile calls."""
# ruff: noqa: T201 - it talks to a person

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import boto3  # type: ignore[import-untyped]  # Amazon gives it no types
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from operations.proven import watch


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m operations", description="Look after a stack from here.")
    commands = parser.add_subparsers(dest="command", required=True)
    deploy = commands.add_parser("up", help="pulumi up, then wait until the host has proven the release")
    deploy.add_argument("stack")
    deploy.add_argument("pulumi", nargs="*", metavar="-- OPTION", help="options for pulumi up, like --yes")
    asked = parser.parse_args()
    try:
        return up(asked.stack, asked.pulumi)
    except FileNotFoundError as error:
        print(f"up: {error.filename} is not on PATH. Install it (pulumi.com/docs/install), and try again.", file=sys.stderr)
    except (BotoCoreError, ClientError) as error:
        print(f"up: AWS did not say what the host has proven: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("up: stopped waiting; the host goes on by itself.", file=sys.stderr)
        return 130
    return 2


def up(stack: str, options: list[str]) -> int:
    """Exit code: 0 proven, 1 the host said why not (or said nothing for too long), else pulumi's own."""
    code = subprocess.call(["pulumi", "up", "--stack", stack, *options])
    if code != 0:
        return code
    begun = time.monotonic()
    outputs = json.loads(_pulumi("stack", "output", "--json", "--stack", stack))
    region = _pulumi("config", "get", "aws:region", "--stack", stack).strip()
    ssm = boto3.client("ssm", region_name=region)
    print(f"Waiting for the host of {stack} to prove release {outputs['release'][:12]} ...", flush=True)
    said = None
    for said in watch(lambda: str(ssm.get_parameter(Name=outputs["proven"])["Parameter"]["Value"]), outputs["release"]):
        print(f"  {time.monotonic() - begun:4.0f} s  {said.text}", flush=True)
    if said is not None and said.proven:
        print(f"The service is proven: {outputs['url']}")
        return 0
    print("The release is not proven. On the host: sudo orthanc-host status (docs/host.md, On the host).", file=sys.stderr)
    return 1


def _pulumi(*words: str) -> str:
    done = subprocess.run(["pulumi", *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)  # pulumi has said why
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
