"""nginx's configuration language, read back into directives the way nginx's own tokenizer reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_ESCAPES = {"t": "\t", "r": "\r", "n": "\n"}  # in front of any other character but a quote or itself, a backslash stays
_AFTER_A_QUOTED_WORD = set(" \t\r\n;{)")


class BrokenConfigurationError(ValueError):
    """What nginx would refuse to read."""


@dataclass
class Block:
    """One directive, and what stands in its braces. `main` is the file itself."""

    name: str
    args: tuple[str, ...] = ()
    outer: Block | None = None
    has_braces: bool = False
    inner: list[Block] = field(default_factory=list)

    def walk(self) -> Iterator[Block]:
        for child in self.inner:
            yield child
            yield from child.walk()

    def all(self, *path: str) -> list[Block]:
        """Every directive at a path of names below this one, such as "stream", "server", "listen"."""
        found = [self]
        for name in path:
            found = [child for block in found for child in block.inner if child.name == name]
        return found

    def one(self, *path: str) -> Block:
        (found,) = self.all(*path)
        return found

    def value(self, name: str) -> tuple[str, ...] | None:
        """The arguments that hold here: this block's own, else what it inherits."""
        own = [child for child in self.inner if child.name == name]
        if own:
            return own[-1].args
        return self.outer.value(name) if self.outer else None

    def pairs(self, name: str) -> dict[str, str]:
        """Every `name key value;` of this block."""
        return {child.args[0]: child.args[1] for child in self.all(name)}

    def shape(self) -> object:
        """What remains when every value is taken away: names, how many arguments, nesting. A map's keys are values too."""
        is_key = self.outer is not None and self.outer.name == "map"
        return ("" if is_key else self.name, len(self.args), [child.shape() for child in self.inner])


def _word(text: str, at: int) -> tuple[str, int]:
    """The word that begins at `at`, and where it ends."""
    quote = text[at] if text[at] in "\"'" else ""
    word = []
    position = at + len(quote)
    while True:
        if position >= len(text):
            raise BrokenConfigurationError("unexpected end of file")
        letter = text[position]
        following = text[position + 1 : position + 2]
        if letter == "\\" and following:
            word.append(_ESCAPES.get(following, following if following in "\"'\\" else "\\" + following))
            position += 2
        elif quote and letter == quote:
            if text[position + 1 : position + 2] not in _AFTER_A_QUOTED_WORD:
                raise BrokenConfigurationError(f"unexpected {text[position + 1 : position + 2]!r} after a quoted word")
            return "".join(word), position + 1
        elif not quote and letter == "$" and following == "{":
            end = text.index("}", position)
            word.append(text[position : end + 1])
            position = end + 1
        elif not quote and letter in " \t\r\n;{":
            return "".join(word), position
        else:
            word.append(letter)
            position += 1


def parse(text: str) -> Block:
    main = block = Block("main", has_braces=True)
    words: list[str] = []
    at = 0
    while at < len(text):
        letter = text[at]
        if letter in " \t\r\n":
            at += 1
        elif letter == "#":
            at = text.index("\n", at)
        elif letter in ";{":
            if not words:
                raise BrokenConfigurationError(f"unexpected {letter!r}")
            child = Block(words[0], tuple(words[1:]), block, has_braces=letter == "{")
            block.inner.append(child)
            block = child if letter == "{" else block
            words = []
            at += 1
        elif letter == "}":
            if words or block.outer is None:
                raise BrokenConfigurationError("unexpected '}'")
            block = block.outer
            at += 1
        else:
            word, at = _word(text, at)
            words.append(word)
    if words or block is not main:
        raise BrokenConfigurationError("unexpected end of file")
    return main


def look_up(table: Block, source: str) -> str:
    """What a `map` block yields for a source value (only what the rendered files use: strings, regular expressions, default)."""
    fallback = ""
    strings: dict[str, str] = {}
    expressions: list[tuple[str, str]] = []
    for entry in table.inner:
        if entry.name in {"include", "hostnames", "volatile"}:
            raise BrokenConfigurationError(f"{entry.name!r} means something of its own in a map")
        (result,) = entry.args
        if entry.name == "default":
            if fallback:
                raise BrokenConfigurationError("duplicate default map parameter")
            fallback = result or " "
        elif entry.name.startswith("~"):
            expressions.append((entry.name[1:], result))
        else:
            key = entry.name.removeprefix("\\").lower()  # "Strings are matched ignoring the case"
            if key in strings:
                raise BrokenConfigurationError(f"conflicting parameter {key!r}")
            strings[key] = result
    if source.lower() in strings:
        return strings[source.lower()]
    for expression, result in expressions:
        flags = re.IGNORECASE if expression.startswith("*") else re.NOFLAG
        found = re.search(re.sub(r"\(\?<(\w)", r"(?P<\1", expression.removeprefix("*")), source, flags)
        if found:
            return found.groupdict().get(result.removeprefix("$"), result) if result.startswith("$") else result
    return fallback.strip()
