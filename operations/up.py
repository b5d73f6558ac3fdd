"""`make up`: deploy a stack, and wait until its host has proven the release."""
# ruff: noqa: T201 - it talks to a person

from __future__ import annotations

import json
import subprocess
import sys
import time

import boto3  # type: ignore[import-untyped]  # Amazon gives it no types
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from laptop.tell import Trouble
from operations.deployed import ask
from operations.preflight import Plan, problems
from operations.proven import watch


def up(stack: str, options: list[str]) -> int:
    """Exit code: 0 proven, 1 the host said why not (or said nothing for too long), else pulumi's own."""
    try:
        return _up(stack, options)
    except (BotoCoreError, ClientError) as error:
        raise Trouble(f"AWS did not say what the host has proven: {error}") from None
    except KeyboardInterrupt:
        print("up: stopped waiting; the host goes on by itself.", file=sys.stderr)
        return 130


def _up(stack: str, options: list[str]) -> int:
    plan = Plan.read(stack, ask(stack, "config", "--json"), ask(stack, "stack", "export"))
    if found := list(problems(plan, lambda service: boto3.client(service, region_name=plan.region))):
        raise Trouble("AWS would stop this halfway, so nothing was begun.\n" + "\n".join(found))
    code = subprocess.call(["pulumi", "up", "--stack", stack, *options])
    if code != 0:
        return code
    begun = time.monotonic()
    outputs = json.loads(ask(stack, "stack", "output", "--json"))
    ssm = boto3.client("ssm", region_name=plan.region)
    print(f"Waiting for the host of {stack} to prove release {outputs['release'][:12]} ...", flush=True)
    said = None
    for said in watch(lambda: str(ssm.get_parameter(Name=outputs["proven"])["Parameter"]["Value"]), outputs["release"]):
        print(f"  {time.monotonic() - begun:4.0f} s  {said.text}", flush=True)
    if said is not None and said.proven:
        print(f"The service is proven: {outputs['url']}")
        return 0
    print("The release is not proven. On the host: sudo orthanc-host status (docs/host.md, On the host).", file=sys.stderr)
    return 1
