"""The public names, what importing them costs, and which way the modules of the package may know each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import tallystick
import tallystick.testing

SOURCE = Path(tallystick.__file__).parent
MODULES = {
    ".".join(p.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): p
    for p in SOURCE.rglob("*.py")
    if "versions" not in p.parts
}
HEAVY = {
    *("alembic", "asyncpg", "asyncio", "cryptography", "hypothesis", "msgspec", "pydantic", "pytest", "rich"),
    *("sqlalchemy", "typer", "uuid_utils"),
}

# Who may never know whom, not even inside a function; names of types are free. Every part of the package has a line.
LOW = {"errors", "words", "ids", "assets", "clock", "rules", "fields", "money", "spec", "documents", "tls", "actors"}
LOW |= {"_names", "claims", "database_url", "environment", "shown", "transaction"}
MIDDLE = {"conditions", "query", "filters", "values", "constraints", "privacy", "page", "entity", "declare"}
MIDDLE |= {"annotation", "candidates", "extension", "handles", "indexed", "inputs", "plan"}
READING = {"reader", "repository", "repositories"}
ABOVE_CODEC = READING | {"domains", "session", "app", "seeds", "database"}
OUTSIDE = {"cli", "testing", "sync"}
WALLS = {
    **dict.fromkeys(LOW, MIDDLE | ABOVE_CODEC | OUTSIDE | {"codec", "generated", "loading", "stores", "settings"}),
    **dict.fromkeys(MIDDLE, ABOVE_CODEC | OUTSIDE | {"codec", "generated", "loading", "stores"}),
    "generated": ABOVE_CODEC | OUTSIDE | {"stores", "schema", "loading", "codec"},
    "codec": ABOVE_CODEC | OUTSIDE | {"stores", "schema", "loading"},
    "loading": ABOVE_CODEC | OUTSIDE | {"stores", "schema"},
    "stores": ABOVE_CODEC | OUTSIDE | {"codec", "generated", "loading", "query", "filters", "page", "audit"},
    "schema": ABOVE_CODEC | OUTSIDE | {"stores", "codec", "generated", "loading", "audit"},
    "audit": ABOVE_CODEC | OUTSIDE,
    "reader": ABOVE_CODEC | OUTSIDE | {"stores", "schema"},
    "repository": (ABOVE_CODEC | OUTSIDE | {"stores", "schema"}) - {"reader"},
    **dict.fromkeys(
        ("custom", "disclosure", "domains"),
        {"repositories", "session", "app", "database", "seeds", "stores", "schema"} | OUTSIDE,
    ),
    "repositories": {"session", "app", "database", "seeds", "stores", "schema"} | OUTSIDE,
    "session": {"app", "database", "seeds", "stores", "schema"} | OUTSIDE,
    "database": (ABOVE_CODEC | OUTSIDE | {"audit"}) - {"database"},
    "app": {"seeds", "stores"} | OUTSIDE,
    "seeds": {"app", "database", "stores", "schema"} | OUTSIDE,
    "settings": ABOVE_CODEC | OUTSIDE | {"stores", "codec", "audit"},
    "adoption": {"session", "app", "database", "seeds", "stores"} | OUTSIDE,
    "sync": {"cli", "testing", "web", "seeds", "stores", "schema", "database"},
    "web": {"testing", "seeds", "stores", "schema", "database"},
    "testing": {"cli", "web", "sync"},
    "cli": {"testing", "web", "sync"},
    "": ABOVE_CODEC | OUTSIDE | LOW - {"_names"} | MIDDLE | {"stores", "schema", "codec"},
}
# What works on any store: none is named there, nor a driver, not even as a type.
ANY_STORE = MIDDLE - {"entity", "handles", "privacy"} | READING | {"codec", "generated", "loading", "indexed", "claims"}
ANY_STORE |= {"custom", "disclosure", "session", "transaction"}
STORES = ("tallystick.stores.postgres", "tallystick.stores.embedded", "asyncpg", "sqlalchemy", "alembic")


def imports(path: Path, *, inside_functions: bool) -> Iterator[str]:
    """The modules of this package that a module imports when it runs; imports for type checkers are left out."""

    def visit(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
                continue
            if isinstance(child, ast.ImportFrom) and child.module and child.module.startswith("tallystick"):
                for alias in child.names:
                    inner = f"{child.module}.{alias.name}"
                    yield inner if inner in MODULES else child.module
            elif isinstance(child, ast.Import):
                yield from (a.name for a in child.names if a.name.startswith("tallystick"))
            yield from visit(child)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")))


def part(module: str) -> str:
    """The part of the package that a module belongs to."""
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("package", [tallystick, tallystick.testing])
def test_public_names_are_sorted_complete_and_there(package):
    assert package.__all__ == sorted(package.__all__)
    assert set(package.__all__) == set(package._HOME)
    # What type checkers are told is what is there.
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    told = [n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    named = {a.asname or a.name for n in told for i in n.body if isinstance(i, ast.ImportFrom) for a in i.names}
    assert named - {"Any"} == set(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)
    with pytest.raises(AttributeError):
        _ = package.no_such_name


def test_every_public_name_is_documented():
    for name in tallystick.__all__:
        found = getattr(tallystick, name)
        if isinstance(found, type) or callable(found):
            doc = (found.__doc__ or "").strip()
            assert doc, name
            assert not doc.startswith(f"{name}("), name


@pytest.mark.parametrize("module", ["tallystick", "tallystick.testing", "tallystick.errors", "tallystick.cli"])
def test_importing_is_light(module):
    said = _run(f"import sys, {module}; print(*sys.modules)")
    assert not HEAVY & {m.partition(".")[0] for m in said.split()}


def test_the_pytest_plugin_is_light():
    said = _run(
        "import sys, pytest_asyncio, tallystick.testing.plugin, tallystick.testing.fixtures; print(*sys.modules)"
    )
    found = {m for m in said.split() if m.startswith("tallystick")}
    assert found <= {
        "tallystick",
        "tallystick._names",
        "tallystick.testing",
        "tallystick.testing.plugin",
        "tallystick.testing.fixtures",
    }


def test_the_package_is_typed():
    assert (SOURCE / "py.typed").exists()


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_long(module):
    path = MODULES[module]
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 500, path
    assert "from __future__ import annotations" in text or not list(imports(path, inside_functions=True)), path


def test_nothing_lower_imports_anything_higher():
    broken = [
        f"{module} imports {target}"
        for module, path in MODULES.items()
        for target in imports(path, inside_functions=True)
        if part(target) in WALLS.get(part(module), ())
    ]
    assert not broken


def test_every_part_has_its_walls():
    assert not {part(m) for m in MODULES} - set(WALLS)


def test_what_works_on_any_store_names_none():
    broken = [
        f"{module} names {name}"
        for module, path in MODULES.items()
        if part(module) in ANY_STORE or module == "tallystick.stores.base"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if name.startswith(STORES)
    ]
    assert not broken


def test_modules_do_not_import_each_other_in_circles():
    graph = {m: {t for t in imports(p, inside_functions=False) if t != m} for m, p in MODULES.items()}
    # A package's own __init__ is run for every module in it, and imports nothing or only what is below it.
    TopologicalSorter(graph).prepare()


def test_there_is_no_float_and_no_pickle_where_money_is():
    for name in ("money", "assets", "values", "codec", "generated"):
        tree = ast.parse(MODULES[f"tallystick.{name}"].read_text(encoding="utf-8"))
        called = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
        assert "float" not in called, name
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert not names & {"pickle", "marshal", "shelve"}, module


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_a_public_name_is_no_module_of_the_same_name() -> None:
    code = "import tallystick.session; from tallystick import money; print(money('1.50', 'KES'))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout == "1.50 KES\n"
