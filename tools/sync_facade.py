"""Write the types of the synchronous facade from the asynchronous classes, or check them with ``--check``.

Makes ``src/tallystick/sync/__init__.pyi``, what type checkers and editors read, and ``index.py``, the names in it.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import textwrap
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from tallystick.sync.facade import INTERNAL, is_asynchronous  # noqa: E402

TARGET = ROOT / "src/tallystick/sync/__init__.pyi"
INDEX = ROOT / "src/tallystick/sync/index.py"
ROOTS = [
    ("tallystick.app", "Tallystick"),
    ("tallystick.session", "Session"),
    ("tallystick.repository", "Repository"),
    ("tallystick.claims", "Claimed"),
]
PLAIN = {
    "AsyncIterator": ("collections.abc", "Iterator"),
    "AsyncIterable": ("collections.abc", "Iterable"),
    "AsyncGenerator": ("collections.abc", "Generator"),
    "AbstractAsyncContextManager": ("contextlib", "AbstractContextManager"),
}
RENAMED = {"__aenter__": "__enter__", "__aexit__": "__exit__"}
KEPT = {*RENAMED, "__getitem__", "__len__", "__contains__", "__iter__"}
# What an attribute is that is set to something without an annotation of its own.
ATTRIBUTES = {("Session", "actor"): "str", ("Tallystick", "login_policy"): "LoginPolicy"}
HEAD = '''# pyright: reportOverlappingOverload=false
"""Written by tools/sync_facade.py from the asynchronous classes; change those, and run it again."""
'''


class Source:
    """One module: its classes, and where the names in it come from."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.path = Path(str(importlib.import_module(module).__file__))
        self.text = self.path.read_text()
        self.lines = self.text.splitlines()
        tree = ast.parse(self.text)
        self.classes: dict[str, ast.ClassDef] = {}
        self.names: dict[str, tuple[str, str]] = {}
        self.variables: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for one in node.names:
                    self.names.setdefault(one.asname or one.name, (node.module, one.name))
            elif isinstance(node, ast.Import):
                for one in node.names:
                    self.names.setdefault(one.asname or one.name, ("", one.name))
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
                self.names[node.name] = (module, node.name)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) in {"TypeVar", "ParamSpec"}:
                    self.variables[name] = ast.unparse(node.value)
                else:
                    self.names[name] = (module, name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                self.names[node.target.id] = (module, node.target.id)


source = cache(Source)


@cache
def origin(module: str, name: str) -> tuple[str, str]:
    """Where a name is defined, following what other modules hand on."""
    found = getattr(importlib.import_module(module), name, None)
    if isinstance(found, type) and found.__module__.startswith("tallystick") and found.__name__ == name:
        return found.__module__, name
    return module, name


@cache
def asynchronous(module: str, name: str) -> bool:
    found = getattr(importlib.import_module(module), name, None)
    return isinstance(found, type) and module.startswith("tallystick") and is_asynchronous(found)


@cache
def protocol(module: str, name: str) -> bool:
    return bool(getattr(getattr(importlib.import_module(module), name, None), "_is_protocol", False))


class Stub:
    """The file while it is written."""

    def __init__(self) -> None:
        self.imports: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self.taken: dict[str, tuple[str, str]] = {}
        self.variables: dict[str, str] = {}
        self.waiting = list(ROOTS)
        self.done: dict[tuple[str, str], str] = {}

    def name(self, module: str, name: str, *, given: bool) -> str:
        """What a name is called here. ``given`` ones come from callers and stay asynchronous if they are protocols."""
        module, name = origin(module, name)
        if asynchronous(module, name) and not (given and protocol(module, name)):
            self.take(name, ("sync", name))
            if (module, name) not in self.done and (module, name) not in self.waiting:
                self.waiting.append((module, name))
            return name
        mine = name if (self.taken.get(name) in {None, (module, name)}) and not asynchronous(module, name) else ""
        if not mine:
            mine = f"_{module.rsplit('.', 1)[-1].title().replace('_', '')}{name}"
        self.take(mine, (module, name))
        self.imports[module].add((name, mine))
        return mine

    def take(self, name: str, what: tuple[str, str]) -> None:
        if self.taken.setdefault(name, what) != what:
            raise SystemExit(f"{name} would mean {self.taken[name]} and {what}; rename one, or import the first later.")

    def note(self, home: Source, node: ast.expr, *, given: bool = False) -> str:
        """An annotation, with every name as it is called here."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node = ast.parse(node.value, mode="eval").body
        return ast.unparse(ast.fix_missing_locations(_Names(self, home, given).visit(_copy(node))))


class _Names(ast.NodeTransformer):
    def __init__(self, stub: Stub, home: Source, given: bool) -> None:
        self.stub, self.home, self.given = stub, home, given

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id in {"Awaitable", "Coroutine"}:
            last = node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) else node.slice
            return self.visit(last)  # type: ignore[no-any-return]
        if isinstance(node.value, ast.Name) and node.value.id in {"Literal", "Annotated"}:
            self.visit(node.value)
            if node.value.id == "Annotated" and isinstance(node.slice, ast.Tuple):
                return self.visit(node.slice.elts[0])  # type: ignore[no-any-return]
            return node
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        # What a thread waits for is a thread's.
        if ast.unparse(node) == "asyncio.Event":
            self.stub.imports["threading"].add(("", ""))
            return ast.Attribute(ast.Name("threading"), "Event")
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str):
            return self.visit(ast.parse(node.value, mode="eval").body)  # type: ignore[no-any-return]
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        name, home, stub = node.id, self.home, self.stub
        if name in home.variables:
            return ast.Name(_variable(stub, home, name))
        if name not in home.names:
            return node
        module, real = home.names[name]
        if not module:
            stub.imports[real].add(("", ""))
            return node
        if real in PLAIN and module in {"collections.abc", "contextlib", "typing"}:
            module, real = PLAIN[real]
        if module.startswith("tallystick") and real in source(module).variables:
            return ast.Name(_variable(stub, source(module), real))
        return ast.Name(stub.name(module, real, given=self.given))


def _variable(stub: Stub, home: Source, name: str) -> str:
    call = ast.parse(home.variables[name], mode="eval").body
    assert isinstance(call, ast.Call)
    for keyword in call.keywords:
        if keyword.arg == "bound":
            keyword.value = ast.parse(stub.note(home, keyword.value, given=True), mode="eval").body
    kind = ast.unparse(call.func)
    stub.imports["typing"].add((kind, kind))
    text, mine, number = ast.unparse(call), name, 2
    while stub.variables.setdefault(mine, text.replace(repr(name), repr(mine), 1)) != text.replace(
        repr(name), repr(mine), 1
    ):
        mine, number = f"{name}{number}", number + 1
    return mine


def _copy(node: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(node), mode="eval").body


def _public(name: str) -> bool:
    return name in KEPT or not (name.startswith("_") or name in INTERNAL)


def _doc(node: ast.AST, indent: str) -> list[str]:
    text = ast.get_docstring(node)  # type: ignore[arg-type]
    if not text:
        return []
    for was, now in (("async with", "with"), ("async for", "for"), ("await ", "")):
        text = text.replace(was, now)
    mark = 'r"""' if "\\" in text else '"""'
    end = '\n"""' if "\n" in text else '"""'
    lines = textwrap.indent(f"{mark}{text}{end}", indent).splitlines()
    return [*lines, ""] if isinstance(node, ast.ClassDef) else lines


def _method(stub: Stub, home: Source, cls: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    decorators = [ast.unparse(d) for d in node.decorator_list]
    kept = [
        "property" if d.endswith("cached_property") else d
        for d in decorators
        if d in {"property", "overload", "staticmethod", "classmethod"} or d.endswith("cached_property")
    ]
    if "overload" in kept:
        stub.imports["typing"].add(("overload", "overload"))
    arguments = node.args
    if (cls, node.name) == ("Tallystick", "session"):
        _drop(arguments, "connection")
    for one in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
        if one is not None and one.annotation is not None:
            one.annotation = ast.parse(stub.note(home, one.annotation, given=True), mode="eval").body
    arguments.defaults = [ast.Constant(...) for _ in arguments.defaults]
    arguments.kw_defaults = [None if d is None else ast.Constant(...) for d in arguments.kw_defaults]
    answer = "None" if node.returns is None else stub.note(home, node.returns)
    if "asynccontextmanager" in decorators:
        stub.imports["contextlib"].add(("AbstractContextManager", "AbstractContextManager"))
        answer = answer.replace("Iterator", "AbstractContextManager", 1)
    name = RENAMED.get(node.name, node.name)
    start = node.lineno - 1
    ignored = (
        "  # type: ignore[override]" if "ignore[override]" in "".join(home.lines[start : node.body[0].lineno]) else ""
    )
    lines = [f"    @{d}" for d in kept]
    lines.append(f"    def {name}({ast.unparse(arguments)}) -> {answer}:{ignored}")
    doc = [] if "overload" in kept else _doc(node, "        ")
    return [*lines, *(doc or ["        ..."])]


def _drop(arguments: ast.arguments, name: str) -> None:
    """Leave out a keyword that only the asynchronous side takes."""
    kept = [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if a.arg != name]
    arguments.kwonlyargs, arguments.kw_defaults = [a for a, _ in kept], [d for _, d in kept]


def _attributes(stub: Stub, home: Source, node: ast.ClassDef, seen: set[str]) -> list[str]:
    """What ``__init__`` sets that is public."""
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is None:
        return []
    every = [*init.args.args, *init.args.kwonlyargs]
    given = {a.arg: a.annotation for a in every if a.annotation is not None}
    lines = []
    for step in ast.walk(init):
        target = step.targets[0] if isinstance(step, ast.Assign) else getattr(step, "target", None)
        if not (isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"):
            continue
        name = target.attr
        if not _public(name) or name in seen:
            continue
        seen.add(name)
        found: ast.expr | None = None
        where = home
        if isinstance(step, ast.AnnAssign):
            found = step.annotation
        elif isinstance(step, ast.Assign) and isinstance(step.value, ast.Name):
            found = given.get(step.value.id)
        elif isinstance(step, ast.Assign) and isinstance(step.value, ast.Call):
            made = step.value.func
            if isinstance(made, ast.Name) and made.id == "cast":
                found = step.value.args[0]
            elif isinstance(made, ast.Name) and made.id[:1].isupper() and made.id in home.names:
                found = made
            elif isinstance(made, ast.Name) and made.id in home.names:
                where, found = _answer(*home.names[made.id])
        if found is None:
            found = given.get(name)
        if found is None and (node.name, name) in ATTRIBUTES:
            found = ast.parse(ATTRIBUTES[node.name, name], mode="eval").body
        if found is None:
            raise SystemExit(f"{home.module}.{node.name}.{name}: annotate it where it is set.")
        lines += ["    @property", f"    def {name}(self) -> {stub.note(where, found)}: ..."]
    return lines


def _answer(module: str, name: str) -> tuple[Source, ast.expr | None]:
    """What a function is annotated to answer, and the module to read that in."""
    found = getattr(importlib.import_module(module), name)
    text = getattr(found, "__annotations__", {}).get("return")
    return source(found.__module__), ast.parse(text, mode="eval").body if isinstance(text, str) else None


def _class(stub: Stub, module: str, name: str) -> list[str]:
    home = source(module)
    node = home.classes[name]
    bases = []
    for base in node.bases:
        plain = ast.unparse(base).split("[")[0]
        where = home.names.get(plain)
        if plain in {"Generic", "Protocol"} or (where is not None and asynchronous(*origin(*where))):
            bases.append(stub.note(home, base))
    lines = [f"class {name}({', '.join(bases)}):" if bases else f"class {name}:", *_doc(node, "    ")]
    seen: set[str] = set()
    body = []
    for item in node.body:
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)) and _public(item.name):
            if name != "Tallystick" and any(ast.unparse(d) == "classmethod" for d in item.decorator_list):
                continue
            if item.name in seen and not any(ast.unparse(d) == "overload" for d in item.decorator_list):
                continue
            overloaded = any(ast.unparse(d) == "overload" for d in item.decorator_list)
            seen.add(item.name)
            body += _method(stub, home, name, item)
            if overloaded:
                continue
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and _public(item.target.id):
            seen.add(item.target.id)
            if "ClassVar" not in ast.unparse(item.annotation):
                body += ["    @property", f"    def {item.target.id}(self) -> {stub.note(home, item.annotation)}: ..."]
    body = [*_attributes(stub, home, node, seen), *body]
    if name == "Tallystick":
        body += ["    def start(self) -> None: ..."] if "start" not in seen else []
    return [*lines, *(body or ["    ..."]), ""]


def written() -> tuple[str, str]:
    """The stub and the index."""
    # Names of facades are settled first: what is imported beside them steps aside.
    first, stub = Stub(), Stub()
    for turn in (first, stub):
        if turn is stub:
            for where in first.done:
                stub.take(where[1], ("sync", where[1]))
            _fresh()
        classes: list[list[str]] = []
        while turn.waiting:
            module, name = turn.waiting.pop(0)
            if (module, name) not in turn.done:
                turn.done[module, name] = name
                turn.take(name, ("sync", name))
                classes.append(_class(turn, module, name))
    lines = [HEAD, "from __future__ import annotations", ""]
    for module in sorted(stub.imports):
        names = sorted(stub.imports[module] - {("", "")})
        if ("", "") in stub.imports[module]:
            lines.append(f"import {module}")
        if names:
            lines.append(f"from {module} import {', '.join(n if n == m else f'{n} as {m}' for n, m in names)}")
    lines += ["", *(f"{name} = {text}" for name, text in sorted(stub.variables.items())), ""]
    for one in sorted(classes, key=lambda c: c[0]):
        lines += one
    every = sorted(stub.done.values())
    lines.append(f"__all__ = {every!r}")
    index = ['"""Written by tools/sync_facade.py: the facade\'s classes, and where the asynchronous ones are."""', ""]
    index += ["from __future__ import annotations", "", "WHERE = {"]
    index += [f'    "{name}": "{module}",' for (module, name) in sorted(stub.done, key=lambda w: w[1])]
    return formatted("\n".join(lines), "__init__.pyi"), formatted("\n".join([*index, "}"]), "index.py")


def _fresh() -> None:
    source.cache_clear()


def formatted(text: str, name: str) -> str:
    """As the linter wants it."""
    where = str(ROOT / "src/tallystick/sync" / name)
    ruff = [sys.executable, "-m", "ruff"]
    for step in (["check", "-q", "--select", "I,F401", "--fix"], ["format", "-q"]):
        text = subprocess.run(  # noqa: S603  our own linter
            [*ruff, *step, "--stdin-filename", where, "-"],
            input=text,
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=True,
        ).stdout
    return text


def main(arguments: list[str]) -> int:
    stale = []
    for path, text in zip((TARGET, INDEX), written(), strict=True):
        if "--check" not in arguments:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        print(f"Stale: {', '.join(stale)}. Run python tools/sync_facade.py.")
    return bool(stale)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
