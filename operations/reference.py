"""`make docs`: docs/settings.md, written from the Settings class. `python -m operations.reference` writes it anew."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import AfterValidator, BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from config_templates.model import User
from infra.settings import FIELDS, PROJECT, Modality, Settings, how_to_set

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
_INTRODUCTION: Final = f"""\
# Every setting of a stack

Written by `make docs` from the class `Settings` in `infra/settings.py`; a test holds the two equal. A setting stands in `Pulumi.STACK.yaml`
as `{PROJECT}:NAME`, and has the default below when it does not. What is wrong is said before anything is made, all at once.
How a stack is brought up: [aws.md](aws.md). What settings cost: [aws-costs.md](aws-costs.md).
"""
_KINDS: Final[Mapping[Any, str]] = {
    bool: "`true` or `false`",
    int: "whole number",
    str: "text",
    SecretStr: "text, encrypted in the stack's file",
    IPv4Network: "network (CIDR)",
    IPv4Address: "IPv4 address",
    Modality: "modality (below)",
    User: "user (below)",
}
# What lists of objects look like in the stack's file.
_WRITTEN: Final[Mapping[str, str]] = {
    "modalities": """\
orthanc:modalities:
  - aet: CT1
    may: [store, find]
  - {aet: WS1, may: [find, move], address: 198.51.100.20, port: 2762, certificates: [1, 2]}
  - {aet: GATE1, may: [store, find], silentMinutes: 15}""",
    "users": """\
orthanc:users:
  - {name: admin, role: admin}
  - {name: ward-3, role: reader}""",
    "zones": "orthanc:zones: [a, b]",
}


def page() -> str:
    """The whole page."""
    return "\n".join((_INTRODUCTION, *_sections()))


def _sections() -> Iterator[str]:
    for line in inspect.getsource(Settings).splitlines():
        if heading := re.fullmatch(r" {4}# -- (.+)", line):
            title = heading[1]
            yield f"## {title[0].upper()}{title[1:]}\n"
        elif (field := re.match(r" {4}(\w+): ", line)) and field[1] in Settings.model_fields:
            yield _setting(field[1])


def _setting(name: str) -> str:
    key = next(key for key, field in FIELDS.items() if field == name)
    info = Settings.model_fields[name]
    lines = [f"### `{key}`", "", f"{_sentence(info)}", "", f"- {_kind(info)}", f"- default: {_default(name, info)}"]
    if name in _WRITTEN:
        lines += ["- in `Pulumi.STACK.yaml`:", "", "  ```yaml", *(f"  {line}" for line in _WRITTEN[name].splitlines()), "  ```"]
    else:
        lines.append(f"- `{how_to_set(key)}`")
    objects: Mapping[str, type[BaseModel]] = {"modalities": Modality, "users": User}
    if name in objects:
        lines += ["", "| field | what | type | default |", "|---|---|---|---|", *_fields(objects[name])]
    return "\n".join((*lines, ""))


def _fields(model: type[BaseModel]) -> Iterator[str]:
    for name, info in model.model_fields.items():
        default = "required" if info.is_required() else "none" if info.default is None else f"`{_json(info.default)}`"
        yield f"| `{info.alias or name}` | {info.description or ''} | {_kind(info)} | {default} |"


def _sentence(info: FieldInfo) -> str:
    said = info.description or ""
    return f"{said[:1].upper()}{said[1:]}."


def _default(name: str, info: FieldInfo) -> str:
    if name in ("dicom_cidrs", "web_cidrs"):
        return "none, it must be said"
    if info.default is PydanticUndefined or isinstance(info.default, SecretStr) or info.default in ("", ()):
        return "none"
    return f"`{_json(info.default)}`"


def _json(value: object) -> str:
    plain = to_jsonable_python(value)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _kind(info: FieldInfo) -> str:
    """The type in words, with every rule that a value must keep."""
    return "; ".join((_type(info.annotation), *_rules(info.metadata)))


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return "; ".join((_type(inner[0]), *_rules(inner[1:])))
    if origin is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in inner)
    if origin is tuple:
        return f"list, each {_type(inner[0])}"
    if origin in (UnionType, Union):
        return " or ".join(_type(part) for part in inner if part is not type(None))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"{_type(inner[0])}: {_type(inner[1])}"
    return _KINDS[annotation]


def _rules(metadata: Any) -> Iterator[str]:
    """What validators demand, in the words of their errors."""
    metadata = [rule for one in metadata for rule in (one.metadata if isinstance(one, FieldInfo) else (one,))]
    least, most = (rule.ge for rule in metadata if isinstance(rule, Ge)), (rule.le for rule in metadata if isinstance(rule, Le))
    for low, high in zip(least, most, strict=True):
        yield f"{low} to {high}"
    for rule in metadata:
        if isinstance(rule, AfterValidator):
            yield _rule(rule.func)


def _rule(check: Any) -> str:
    if check.__doc__:
        return str(check.__doc__)
    try:
        check("\0")  # no setting may contain it, so the answer is the rule
    except ValueError as error:
        return re.sub(r"^'\\x00' is not allowed here: ", "", str(error))
    raise TypeError(f"{check} takes anything: give it a docstring that says its rule")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE} is written\n")
