"""Python, by its syntax tree: an argument, item, rule or statement is left out, a condition turned round, a value made worse."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import singledispatchmethod
from typing import Final, TypeAlias

_Place: TypeAlias = ast.expr | ast.stmt
_Where: TypeAlias = tuple[str, ...]
_Found: TypeAlias = Iterator[tuple[_Place, str, str]]

# A whole string -> what would let somebody in, or drop a promise.
_WORDS: Final[Sequence[tuple[str, str]]] = (
    (r"required", "optional"),
    (r"ABANDON", "CONTINUE"),
    (r"aws:kms", "AES256"),
    (r"Enabled", "Suspended"),
    (r"REJECT", "ACCEPT"),
    (r"tcp", "-1"),
    (r"true", "false"),
    (r"StringEquals|ArnLike", "StringNotEquals"),
    (r"Allow", "Deny"),
    (r"([a-z0-9]+):[A-Z]\w+\*?", r"\1:*"),
    (r"server_auth", "client_auth"),
    (r"client_auth", "server_auth"),
    (r"verify-full", "require"),
    (r"TLSv1\.2", "TLSv1"),
    (r"P256", "P224"),
    (r"admin", "reader"),
    (r"reader", "admin"),
    (r"(ECDHE-\w+)-.*", r"\1-AES128-SHA"),
    (r"TLS_.*", "TLS_AES_128_CCM_8_SHA256"),
    (r"(.*)\binside-authority(.*)", r"\1outside-authority\2"),
    (r"(.*)\boutside-authority(.*)", r"\1inside-authority\2"),
    (r"(.*)\borthanc-authority(.*)", r"\1inside-authority\2"),
    (r"(sns|logs|kms|s3|\w+)\.amazonaws\.com", "*"),
    (r"0644", "0666"),
    (r"0755", "0777"),
    (r"(.*)@sha256:[0-9a-f]{64}", r"\1"),
    (r"https(://.*)", r"http\1"),
)
# Calls that make a statement of a policy: the argument that narrows it -> everybody, or everything.
_NARROWING: Final = {"statement": (1, '"*"'), "allow": (1, '{"AWS": "*"}')}
_NARROWING_KEYS: Final = {"Resource": '"*"', "Principal": '"*"'}
_LIST_LIKE: Final = frozenset({"document"})  # calls whose arguments are a list

_HIDING: Final = "pulumi.Output.secret"


def changes(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, what, the whole text) for each change."""
    source = _Source(text)
    for place, replacement, what in source.changes(ast.parse(text), ()):
        yield place.lineno, what, source.with_(place, replacement)


class _Source:
    """The text, read by the places that the tree gives: lines from 1, columns in bytes.

    `where` leads to a node: class, function, call, keyword or key. It is part of a change's name.
    """

    def __init__(self, text: str) -> None:
        self._bytes = text.encode()
        self._starts = [0]
        for line in self._bytes.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def _span(self, node: _Place) -> slice:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return slice(self._starts[node.lineno - 1] + node.col_offset, self._starts[node.end_lineno - 1] + node.end_col_offset)

    def of(self, node: _Place) -> str:
        return self._bytes[self._span(node)].decode()

    def with_(self, node: _Place, replacement: str) -> str:
        span = self._span(node)
        return (self._bytes[: span.start] + replacement.encode() + self._bytes[span.stop :]).decode()

    def _negated(self, node: ast.expr) -> str:
        return self.of(node.operand) if isinstance(node, ast.UnaryOp) else f"not ({self.of(node)})"

    def _swapped(self, node: ast.expr, replacement: str, where: _Where) -> tuple[_Place, str, str]:
        return node, replacement, f"{' / '.join(where)}: {_short(self.of(node))} -> {_short(replacement)}"

    def _without(self, node: _Place, replacement: str, what: str, where: _Where) -> tuple[_Place, str, str]:
        return node, replacement, f"{' / '.join(where)}: without {_short(what)}"

    def _inside(self, node: ast.AST, where: _Where) -> _Found:
        for child in ast.iter_child_nodes(node):
            yield from self.changes(child, where)

    @singledispatchmethod
    def changes(self, node: ast.AST, where: _Where) -> _Found:
        yield from self._inside(node, where)

    # -- definitions and statements

    @changes.register
    def _(self, node: ast.ClassDef, where: _Where) -> _Found:
        for statement in node.body:
            yield from self.changes(statement, (*where, node.name))

    @changes.register
    def _(self, node: ast.FunctionDef, where: _Where) -> _Found:
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                yield from self.changes(default, (*where, node.name, "default"))
        for statement in node.body:
            yield from self.changes(statement, (*where, node.name))

    @changes.register
    def _(self, node: ast.AnnAssign, where: _Where) -> _Found:
        inner = (*where, ast.unparse(node.target))
        for part in ast.walk(node.annotation):  # of a type's parts, rules alone
            if isinstance(part, ast.Subscript) and ast.unparse(part.value) == "Annotated":
                yield from self.changes(part, inner)
        if node.value is not None:
            yield from self.changes(node.value, inner)

    @changes.register
    def _(self, node: ast.Assign, where: _Where) -> _Found:
        target = node.targets[0]
        if not isinstance(target, ast.Tuple):  # that would be names for what is used below
            yield from self.changes(node.value, (*where, ast.unparse(target)))

    @changes.register
    def _(self, node: ast.AugAssign, where: _Where) -> _Found:
        yield self._without(node, "pass", self.of(node), where)
        yield from self.changes(node.value, (*where, ast.unparse(node.target)))

    @changes.register
    def _(self, node: ast.Raise, where: _Where) -> _Found:
        yield self._without(node, "pass", self.of(node), where)

    @changes.register
    def _(self, node: ast.Expr, where: _Where) -> _Found:
        if isinstance(node.value, ast.Constant):  # a docstring
            return
        yields = isinstance(node.value, ast.Yield | ast.YieldFrom)
        yield self._without(node, "yield from ()" if yields else "pass", self.of(node), where)
        yield from self.changes(node.value, where)

    # -- conditions

    @changes.register
    def _(self, node: ast.If | ast.IfExp, where: _Where) -> _Found:
        yield self._swapped(node.test, self._negated(node.test), where)
        yield from self._inside(node, where)

    @changes.register
    def _(self, node: ast.comprehension, where: _Where) -> _Found:
        for test in node.ifs:
            yield self._swapped(test, self._negated(test), where)
        yield from self._inside(node, where)

    @changes.register
    def _(self, node: ast.Compare, where: _Where) -> _Found:
        yield self._swapped(node, self._negated(node), where)
        yield from self._inside(node, where)

    @changes.register
    def _(self, node: ast.BoolOp, where: _Where) -> _Found:
        word = "or" if isinstance(node.op, ast.Or) else "and"
        for left_out in node.values:
            kept = [f"({self.of(value)})" for value in node.values if value is not left_out]
            yield self._without(node, f"({f' {word} '.join(kept)})", f"{word} {self.of(left_out)}", where)
        for value in node.values:  # to leave one out is to turn it round as well
            yield from self._inside(value, where) if isinstance(value, ast.Compare | ast.UnaryOp) else self.changes(value, where)

    @changes.register
    def _(self, node: ast.UnaryOp, where: _Where) -> _Found:
        if isinstance(node.op, ast.Not):
            yield self._swapped(node, self._negated(node), where)
        yield from self._inside(node, where)

    # -- calls and collections

    @changes.register
    def _(self, node: ast.Call, where: _Where) -> _Found:
        function = ast.unparse(node.func)
        inner = (*where, _short(function))
        arguments: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
        for left_out in arguments if function in _LIST_LIKE else node.keywords:
            kept = ", ".join(self._argument(argument) for argument in arguments if argument is not left_out)
            yield self._without(node, f"{self.of(node.func)}({kept})", self._argument(left_out), inner)
        position, wider = _NARROWING.get(function, (0, ""))
        if wider and len(node.args) > position:
            yield self._swapped(node.args[position], wider, inner)
        if function == _HIDING:
            yield self._swapped(node, f"pulumi.Output.from_input({self.of(node.args[0])})", where)
        yield from self.changes(node.func, inner)
        for value in node.args:
            yield from self.changes(value, inner)
        for keyword in node.keywords:
            yield from self.changes(keyword.value, (*inner, keyword.arg or "**"))

    def _argument(self, argument: ast.expr | ast.keyword) -> str:
        if isinstance(argument, ast.keyword):
            return f"{argument.arg}={self.of(argument.value)}" if argument.arg else f"**({self.of(argument.value)})"
        return self.of(argument)

    @changes.register
    def _(self, node: ast.Dict, where: _Where) -> _Found:
        pairs = list(zip(node.keys, node.values, strict=True))

        def text(key: ast.expr | None, value: ast.expr) -> str:
            return f"{self.of(key)}: {self.of(value)}" if key else f"**({self.of(value)})"

        for left_out in pairs:
            kept = ", ".join(text(*pair) for pair in pairs if pair is not left_out)
            yield self._without(node, f"{{{kept}}}", text(*left_out), where)
        for key, value in pairs:
            name = str(key.value) if isinstance(key, ast.Constant) else self.of(key) if key else "**"
            if name in _NARROWING_KEYS:
                yield self._swapped(value, _NARROWING_KEYS[name], (*where, name))
            yield from self.changes(value, (*where, name))

    @changes.register
    def _(self, node: ast.List | ast.Tuple | ast.Set, where: _Where) -> _Found:
        if isinstance(node, ast.Set) or isinstance(node.ctx, ast.Load):
            for left_out in node.elts:
                kept = [self.of(item) for item in node.elts if item is not left_out]
                yield self._without(node, _sequence(node, kept), f"item {self.of(left_out)}", where)
        yield from self._inside(node, where)

    @changes.register
    def _(self, node: ast.Subscript, where: _Where) -> _Found:
        yield from self.changes(node.value, where)
        if ast.unparse(node.value) == "Annotated" and isinstance(node.slice, ast.Tuple):  # another index is no rule
            kind, *rules = node.slice.elts
            for left_out in rules:
                kept = [self.of(rule) for rule in (kind, *rules) if rule is not left_out]
                # `object` is a rule that says nothing, where Annotated wants one at least.
                yield self._without(node.slice, ", ".join(kept if len(kept) > 1 else [*kept, "object"]), self.of(left_out), where)
            for rule in rules:
                yield from self.changes(rule, where)

    # -- values

    @changes.register
    def _(self, node: ast.Constant, where: _Where) -> _Found:
        for new in _constants(node.value):
            yield self._swapped(node, new, where)

    @changes.register
    def _(self, node: ast.JoinedStr, where: _Where) -> _Found:
        # Its parts have no reliable place in the text before Python 3.12.
        for new in _formats(self.of(node)):
            yield self._swapped(node, new, where)


def _short(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= 70 else f"{one[:67]}..."


def _sequence(node: ast.List | ast.Tuple | ast.Set, kept: Sequence[str]) -> str:
    inside = ", ".join(kept)
    if isinstance(node, ast.List):
        return f"[{inside}]"
    if isinstance(node, ast.Set):
        return f"{{{inside}}}" if kept else "set()"
    return f"({inside},)" if kept else "()"


def _constants(value: object) -> Iterator[str]:
    if isinstance(value, bool):
        yield str(not value)
    elif isinstance(value, int):
        # Too much of it, and too little: which of them is the danger is for the tests to know.
        yield str(value * 10 + 1)
        if value:
            yield str(value // 2)
    elif isinstance(value, str):
        for pattern, replacement in _WORDS:
            if re.fullmatch(pattern, value):
                yield repr(re.sub(f"^(?:{pattern})$", replacement, value))
                return


def _formats(text: str) -> Iterator[str]:
    if re.match(r"""f"(arn:|alias/)""", text):
        yield '"*"'
        return
    for pattern, replacement in _WORDS:
        if "authority" in pattern and re.fullmatch(pattern, text):
            yield re.sub(f"^(?:{pattern})$", replacement, text)
            return
