"""Mutants, derived from the files as they are: a new line has its mutants from its first day.

Templates are changed line by line, Python by its syntax tree. Goldens do not count as judges (judging.py), so a mutant is one
question: which test says *why* this line must be as it is?
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = ("__main__.py", "config_templates/**/*", "infra/*.py", "policy/*.py")


@dataclass(frozen=True)
class Mutant:
    path: str
    line: int
    what: str
    text: str = field(repr=False)

    @property
    def name(self) -> str:
        """By what the tables know it: no line number, so that it survives edits elsewhere."""
        return f"{self.path}: {self.what}"

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


def files() -> Iterator[str]:
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT).as_posix()


def mutants(path: str) -> Iterator[Mutant]:
    text = (ROOT / path).read_text(encoding="utf-8")
    seen = {text}
    for line, what, mutated in _of_python(text) if path.endswith(".py") else _of_lines(text, script=path.endswith(".js")):
        if mutated not in seen:
            seen.add(mutated)
            yield Mutant(path, line, what, mutated)


# -- templates, line by line ----------------------------------------------------------------------------------------------

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


def _of_lines(text: str, *, script: bool) -> Iterator[tuple[int, str, str]]:
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


# -- Python, by its syntax tree -------------------------------------------------------------------------------------------

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
    (r"(.*)@sha256:.*", r"\1"),
    (r"https(://.*)", r"http\1"),
)
# Calls that make a statement of a policy: the argument that narrows it -> everybody, or everything.
_NARROWING: Final = {"statement": (1, '"*"'), "allow": (1, '{"AWS": "*"}')}
_NARROWING_KEYS: Final = {"Resource": '"*"', "Principal": '"*"'}
_LIST_LIKE: Final = frozenset({"document"})  # calls whose arguments are a list

_HIDING: Final = "pulumi.Output.secret"


def _of_python(text: str) -> Iterator[tuple[int, str, str]]:
    source = _Source(text)
    for node, replacement, what in _changes(ast.parse(text), (), source):
        yield node.lineno, what, source.replaced(node, replacement)


type_of_node = ast.expr | ast.stmt
_Found = Iterator[tuple[type_of_node, str, str]]


class _Source:
    """The text, by the places that the tree gives: lines from 1, and columns in bytes."""

    def __init__(self, text: str) -> None:
        self._bytes = text.encode()
        self._starts = [0]
        for line in self._bytes.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def _span(self, node: type_of_node) -> slice:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return slice(self._starts[node.lineno - 1] + node.col_offset, self._starts[node.end_lineno - 1] + node.end_col_offset)

    def of(self, node: type_of_node) -> str:
        return self._bytes[self._span(node)].decode()

    def replaced(self, node: type_of_node, replacement: str) -> str:
        span = self._span(node)
        return (self._bytes[: span.start] + replacement.encode() + self._bytes[span.stop :]).decode()


def _short(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= 70 else f"{one[:67]}..."


def _changes(node: ast.AST, where: tuple[str, ...], source: _Source) -> _Found:
    """Every change of `node` and what is in it. `where` leads there: class, function, call, keyword or key."""
    place = " / ".join(where)

    def change(target: type_of_node, replacement: str, what: str) -> tuple[type_of_node, str, str]:
        return target, replacement, f"{place}: {what}"

    def swapped(target: ast.expr, replacement: str) -> tuple[type_of_node, str, str]:
        return change(target, replacement, f"{_short(source.of(target))} -> {_short(replacement)}")

    match node:
        case ast.ClassDef() | ast.FunctionDef():
            inner = (*where, node.name)
            for default in node.args.defaults + [d for d in node.args.kw_defaults if d] if isinstance(node, ast.FunctionDef) else []:
                yield from _changes(default, (*inner, "default"), source)
            for statement in node.body:
                yield from _changes(statement, inner, source)
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()) | ast.Pass():
            return
        case ast.AnnAssign():
            inner = (*where, ast.unparse(node.target))
            for annotated in (n for n in ast.walk(node.annotation) if isinstance(n, ast.Subscript) and ast.unparse(n.value) == "Annotated"):
                yield from _of_annotated(annotated, inner, source)
            if node.value is not None:
                yield from _changes(node.value, inner, source)
        case ast.Assign(targets=[ast.Tuple()], value=ast.Tuple()):
            return  # names for what is used below
        case ast.Assign():
            yield from _changes(node.value, (*where, ast.unparse(node.targets[0])), source)
        case ast.AugAssign():
            yield change(node, "pass", f"without {_short(source.of(node))}")
            yield from _changes(node.value, (*where, ast.unparse(node.target)), source)
        case ast.Raise():
            yield change(node, "pass", f"without {_short(source.of(node))}")
        case ast.Expr(value=ast.Yield() | ast.YieldFrom()):
            yield change(node, "yield from ()", f"without {_short(source.of(node))}")
            yield from _inside(node.value, where, source)
        case ast.Expr(value=ast.Call()):
            yield change(node, "pass", f"without {_short(source.of(node))}")
            yield from _changes(node.value, where, source)
        case ast.If() | ast.IfExp():
            yield swapped(node.test, _negated(node.test, source))
            yield from _inside(node, where, source)
        case ast.comprehension():
            for test in node.ifs:
                yield swapped(test, _negated(test, source))
            yield from _inside(node, where, source)
        case ast.Compare():
            yield swapped(node, _negated(node, source))
            yield from _inside(node, where, source)
        case ast.BoolOp():
            word = " or " if isinstance(node.op, ast.Or) else " and "
            for left_out in node.values:
                kept = [f"({source.of(value)})" for value in node.values if value is not left_out]
                yield change(node, f"({word.join(kept)})", f"without {word.strip()} {_short(source.of(left_out))}")
            yield from _inside(node, where, source)
        case ast.UnaryOp(op=ast.Not()):
            yield swapped(node, source.of(node.operand))
            yield from _inside(node, where, source)
        case ast.Call():
            yield from _of_call(node, where, source)
        case ast.Dict():
            yield from _of_dict(node, where, source)
        case ast.List() | ast.Tuple() | ast.Set() if not isinstance(getattr(node, "ctx", None), ast.Store):
            for left_out in node.elts:
                kept = [source.of(item) for item in node.elts if item is not left_out]
                yield change(node, _sequence(node, kept), f"without item {_short(source.of(left_out))}")
            yield from _inside(node, where, source)
        case ast.Constant():
            yield from (swapped(node, new) for new in _constants(node.value))
        case ast.JoinedStr():
            # Its parts have no reliable place in the text before Python 3.12.
            yield from (swapped(node, new) for new in _formats(source.of(node)))
        case ast.Subscript():
            yield from _changes(node.value, where, source)  # an index is no rule
            if ast.unparse(node.value) == "Annotated":
                yield from _of_annotated(node, where, source)
        case _:
            yield from _inside(node, where, source)


def _inside(node: ast.AST, where: tuple[str, ...], source: _Source) -> _Found:
    for child in ast.iter_child_nodes(node):
        yield from _changes(child, where, source)


def _of_annotated(node: ast.Subscript, where: tuple[str, ...], source: _Source) -> _Found:
    """A type without one of its rules."""
    assert isinstance(node.slice, ast.Tuple)
    kind, *rules = node.slice.elts
    for left_out in rules:
        kept = [source.of(rule) for rule in (kind, *rules) if rule is not left_out]
        # `object` is a rule that says nothing, where Annotated wants one at least.
        text = ", ".join(kept if len(kept) > 1 else [*kept, "object"])
        yield node.slice, text, f"{' / '.join(where)}: without {_short(source.of(left_out))}"
    for rule in rules:
        yield from _changes(rule, where, source)


def _of_call(node: ast.Call, where: tuple[str, ...], source: _Source) -> _Found:
    function = ast.unparse(node.func).rpartition("super().")[2]
    inner = (*where, _short(function))
    place = " / ".join(inner)
    arguments: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]

    def text(argument: ast.expr | ast.keyword) -> str:
        if isinstance(argument, ast.keyword):
            return f"{argument.arg}={source.of(argument.value)}" if argument.arg else f"**({source.of(argument.value)})"
        return source.of(argument)

    for left_out in arguments if function in _LIST_LIKE else node.keywords:
        kept = ", ".join(text(argument) for argument in arguments if argument is not left_out)
        yield node, f"{source.of(node.func)}({kept})", f"{place}: without {_short(text(left_out))}"
    position, wider = _NARROWING.get(function, (0, ""))
    if wider and len(node.args) > position:
        narrow = node.args[position]
        yield narrow, wider, f"{place}: {_short(source.of(narrow))} -> {wider}"
    if function == _HIDING:
        yield node, f"pulumi.Output.from_input({text(arguments[0])})", f"{place}: in plain"
    yield from _changes(node.func, inner, source)
    for value in node.args:
        yield from _changes(value, inner, source)
    for keyword in node.keywords:
        yield from _changes(keyword.value, (*inner, keyword.arg or "**"), source)


def _of_dict(node: ast.Dict, where: tuple[str, ...], source: _Source) -> _Found:
    pairs = list(zip(node.keys, node.values, strict=True))

    def text(key: ast.expr | None, value: ast.expr) -> str:
        return f"{source.of(key)}: {source.of(value)}" if key else f"**({source.of(value)})"

    for left_out in pairs:
        kept = ", ".join(text(*pair) for pair in pairs if pair is not left_out)
        yield node, f"{{{kept}}}", f"{' / '.join(where)}: without {_short(text(*left_out))}"
    for key, value in pairs:
        name = key.value if isinstance(key, ast.Constant) else ast.unparse(key) if key else "**"
        inner = (*where, str(name))
        wider = _NARROWING_KEYS.get(str(name))
        if wider:
            yield value, wider, f"{' / '.join(inner)}: {_short(source.of(value))} -> {wider}"
        yield from _changes(value, inner, source)


def _negated(node: ast.expr, source: _Source) -> str:
    return source.of(node.operand) if isinstance(node, ast.UnaryOp) else f"not ({source.of(node)})"


def _sequence(node: ast.List | ast.Tuple | ast.Set, kept: list[str]) -> str:
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
