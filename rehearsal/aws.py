"""Amazon's command line as far as the pages use it, so that their commands can be run as they stand there against the emulated AWS.

`aws SERVICE COMMAND --option value`, `aws SERVICE wait NAME`, `--region`, `--query`, `--output text`. Options and their types are those of
Amazon's own service models. The real one pins the same libraries to other versions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]  # Amazon gives it no types
import jmespath  # type: ignore[import-untyped]
from botocore import xform_name  # type: ignore[import-untyped]

_ITS_OWN = ("region", "query", "output")


def put_on_path(folder: Path) -> None:
    """Make `folder` hold a program `aws`."""
    program = folder / "aws"
    here = Path(__file__).resolve().parent.parent
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{here}" exec "{sys.executable}" -m rehearsal.aws "$@"\n', encoding="utf-8")
    program.chmod(0o755)


def options(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each option with its values: none for a flag."""
    rest = list(words)
    while rest:
        name = rest.pop(0)
        if not name.startswith("--"):
            raise ValueError(f"unexpected: {name}")
        values = []
        while rest and not rest[0].startswith("--"):
            values.append(rest.pop(0))
        yield name.removeprefix("--"), values


def parameters(shape: Any, said: Mapping[str, list[str]]) -> dict[str, object]:
    """What the options mean to the service. Raises KeyError with an option that it does not know."""
    members = {xform_name(name, "-"): (name, member.type_name) for name, member in shape.members.items()}
    found: dict[str, object] = {}
    for option, values in said.items():
        name, kind = members[option] if option in members else members[option.removeprefix("no-")]
        match kind:
            case "boolean":
                found[name] = option in members
            case "list":
                found[name] = values
            case "integer" | "long":
                found[name] = int(values[0])
            case "structure" | "map":
                found[name] = json.loads(values[0])
            case _:
                (found[name],) = values
    return found


def text(value: object) -> str:
    """As `--output text` prints it."""
    if value is None:
        return "None"
    return "\t".join(map(text, value)) if isinstance(value, list) else str(value)


def main(arguments: Sequence[str]) -> int:
    service, command, *rest = arguments
    waited = rest.pop(0) if command == "wait" else ""
    said = dict(options(rest))
    own = {name: said.pop(name)[0] for name in _ITS_OWN if name in said}
    client = boto3.client(service, region_name=own.get("region"))
    if waited:
        waiter = client.get_waiter(waited.replace("-", "_"))
        waiter.wait(**parameters(client.meta.service_model.operation_model(waiter.config.operation).input_shape, said))
        return 0
    method = command.replace("-", "_")
    operation = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])
    answer = getattr(client, method)(**parameters(operation.input_shape, said))
    answer.pop("ResponseMetadata", None)
    shown = jmespath.search(own["query"], answer) if "query" in own else answer
    sys.stdout.write((text(shown) if own.get("output") == "text" else json.dumps(shown, indent=4, default=str)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
