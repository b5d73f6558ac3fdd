"""Templates and scripts, line by line: a line is left out, or says the opposite, or less."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

_Change = Callable[[re.Match[str]], str]

# What stands there -> what would let somebody in, or tell something.
_FLIPS: Final[Sequence[tuple[str, str | _Change]]] = (
    (r"\bon\b", "off"),
    (r"\boff\b", "on"),
    (r"\btrue\b", "false"),
    (r"\bfalse\b", "true"),
    (r"\bTLSv1\.2\b", "TLSv1"),
    (r"\{\{ ciphers \}\}", "ALL"),
    (r"\boutside-authority\b", "orthanc-authority"),
    (r"\borthanc-authority\b", "outside-authority"),
    (r"\b(401|403|429)\b", "200"),
    (r"\bnobody\b", "admin"),
    (r"(?<=\s)0;", "1;"),
    (r"(?<=\s)1;", "0;"),
    (r"(?<=\}\}) ssl\b", ""),
    (r"\b127\.0\.0\.1:", ""),
    (r"~(\*?)\^", r"~\1"),
    (r"\(\\\?\|\$\)", ""),
    (r"\bescape=json\b", "escape=none"),
    (r"\b(emerg|notice|info)\b", "debug"),
    (r"\$(path|who)\b", "$request_uri"),
    (r"\{\{ limits\.\w+ \}\}", "9999"),
    (r"(?<=[ =])\d+(?=[skm]?;| burst|r/s)", lambda found: f"{int(found[0]) + 1}000"),
    (r"\bhostssl\b", "host"),
    (r"\bscram-sha-256\b", "trust"),
    (r"\[ALL\]", "[]"),
    (r"\bmode=0700\b", "mode=0777"),
    (r"\{\{ \w+\.account\.[ug]id \}\}", "0"),
    (r"\bpanic\b", "error"),
    (r"\bterse\b", "default"),
    (r"'none'", "'all'"),
    (r"= -1$", "= 0"),
    (r"= 0$", "= -1"),
    (r"(?<=\{\{ )\w+_port\b", "places.GATEWAY_ALIVE_PORT"),
)
_SCRIPT_FLIPS: Final[Sequence[tuple[str, str | _Change]]] = (
    (r"!==", "==="),
    (r"===", "!=="),
    (r"&&", "||"),
    (r" > ", " >= "),
    (r" < ", " <= "),
    (r"\b\d+\b", lambda found: str(int(found[0]) + 1)),
    (r"!(?=\w)", ""),
    (r"\bs\.deny\b", "s.done"),
    (r"\bs\.done\b", "s.deny"),
    (r"'\?'", "' '"),
)
# A line that can go without taking the lines around it along: not one that opens or closes a block.
_WHOLE: Final = re.compile(r".*(?<![{:\\&])(?<!=>)$")
_NO_CODE: Final = re.compile(r"\s*(#|//|--|\{%|\{#|[})\]]|$)")


def changes(text: str, *, script: bool) -> Iterator[tuple[int, str, str]]:
    """(line, what, the whole text) for each change. `script`: it is JavaScript."""
    lines = text.splitlines(keepends=True)

    def changed(number: int, line: str) -> str:
        return "".join([*lines[:number], line, *lines[number + 1 :]])

    for number, whole in enumerate(lines):
        line = whole.rstrip("\n")
        if _NO_CODE.match(line):
            continue
        said = line.strip()
        if _WHOLE.match(line):
            yield number + 1, f"{said!r} removed", changed(number, "")
        for pattern, replacement in (*(_FLIPS if not script else ()), *(_SCRIPT_FLIPS if script else ())):
            for found in re.finditer(pattern, line):
                new = replacement(found) if callable(replacement) else found.expand(replacement)
                mutated = line[: found.start()] + new + line[found.end() :]
                yield number + 1, f"{said!r} -> {mutated.strip()!r}", changed(number, mutated + "\n")
