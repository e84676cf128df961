"""The samples of the documentation run, in their order, as one program a page."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the account of root's servers can reach, unlike ``tmp_path``; nothing stays elsewhere then."""
    with tempfile.TemporaryDirectory(prefix="tallystick-samples-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.mark.parametrize(
    "page",
    [
        "adopting.md",
        "audit.md",
        "circles.md",
        "encryption.md",
        "extending.md",
        "fastapi.md",
        "joining.md",
        "lending.md",
        "litestar.md",
        "logins.md",
        "outbox.md",
        "privacy.md",
        "reputation.md",
        "seeing.md",
        "underwriting.md",
        "vaults.md",
    ],
)
async def test_samples_run(page: str, place: Path) -> None:
    source = (DOCS / page).read_text()
    module = ModuleType(f"sample_{page.removesuffix('.md')}")
    module.__dict__["data_dir"] = place / "data"
    sys.modules[module.__name__] = module
    try:
        for match in BLOCK.finditer(source):
            line = source.count("\n", 0, match.start()) + 1
            code = compile(
                "\n" * line + "from __future__ import annotations\n"[:-1] + "\n" + match[1],
                str(DOCS / page),
                "exec",
                flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            )
            result = eval(code, module.__dict__)
            if inspect.iscoroutine(result):
                await result
    finally:
        del sys.modules[module.__name__]
        tally = module.__dict__.get("tally")
        if tally is not None:
            await tally.close()


async def test_samples_of_the_synchronous_page_run(place: Path) -> None:
    """In a thread, because they do not await."""
    module = ModuleType("sample_sync")
    module.__dict__["data_dir"] = place / "data"
    blocks = BLOCK.findall((DOCS / "sync.md").read_text())
    assert blocks
    for block in blocks:
        await asyncio.to_thread(exec, compile(block, "sync.md", "exec"), module.__dict__)


@pytest.mark.parametrize(
    ("page", "app"), [("django.md", "django_site/*.py"), ("celery.md", "payments_worker.py")], ids=["django", "celery"]
)
def test_samples_are_those_of_an_application_that_the_tests_run(page: str, app: str) -> None:
    sources = [p.read_text() for p in (DOCS.parent / "tests" / "adoption" / "apps").glob(app)]
    blocks = BLOCK.findall((DOCS / page).read_text())
    assert blocks
    for block in blocks:
        assert any(block in source for source in sources), block


def test_every_link_between_pages_leads_somewhere() -> None:
    root = DOCS.parent
    for page in [*DOCS.rglob("*.md"), root / "README.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(root)} links to {target}"


def test_the_index_leads_to_every_page() -> None:
    index = (DOCS / "README.md").read_text()
    pages = {str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md")} - {"README.md"}
    assert pages - set(re.findall(r"\]\(([^)#]+)\)", index)) == set()
    examples = (DOCS.parent / "examples" / "README.md").read_text()
    assert all(f"({p.name})" in examples for p in (DOCS.parent / "examples").glob("[!_]*.py"))
