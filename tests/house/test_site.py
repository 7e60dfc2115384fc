"""The site that `make docs` builds: what can be known of it without mkdocs."""

from __future__ import annotations

import importlib.util
import posixpath
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import atrous

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SITE = YAML(typ="safe").load(ROOT / "mkdocs.yml")


def load_hooks():
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = load_hooks()
OUTSIDE = {page: source for source, page in HOOKS.PAGES.items()}
PAGES = {
    **{path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")},
    **{page: (ROOT / source).read_text(encoding="utf-8") for page, source in OUTSIDE.items()},
    "decisions/index.md": HOOKS.list_decisions(),
}
FILES = {*PAGES, *HOOKS.FILES.values(), *(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.*"))}


def list_nav(entries):
    for entry in entries:
        for target in entry.values() if isinstance(entry, dict) else [entry]:
            yield from [target] if isinstance(target, str) else list_nav(target)


def test_every_page_is_in_the_navigation_and_exists():
    named = list(list_nav(SITE["nav"]))
    assert [name for name in named if name not in PAGES] == []
    assert [name for name in PAGES if name not in named and not name.startswith("decisions/0")] == []


def find_anchors(text):
    """Return the anchors of a page: of its headings, and of the objects that it describes."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    slugs = [re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles]
    return {*slugs, *re.findall(r"^::: (\S+)$", text, flags=re.MULTILINE)}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_between_pages_lead_somewhere(page):
    source = OUTSIDE.get(page, f"docs/{page}")
    text = re.sub(r"^```.*?^```", "", HOOKS.adapt_links(PAGES[page], source, page), flags=re.DOTALL | re.MULTILINE)
    for path, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text):
        if "://" in path:
            continue
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
        assert target in FILES, f"{page}: {path}"
        if anchor:
            assert anchor in find_anchors(PAGES[target]), f"{page}: {path}#{anchor}"


def test_the_reference_has_every_public_name():
    objects = [load_object(name) for name in re.findall(r"^::: (\S+)$", PAGES["reference.md"], flags=re.MULTILINE)]
    for name in atrous.__all__:
        public = getattr(atrous, name)
        assert any(public is found or public.__module__ == getattr(found, "__name__", "") for found in objects), name


def load_object(path):
    """Return a module, or an attribute of one, by its dotted path."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


def test_nothing_is_loaded_from_elsewhere():
    assert SITE["theme"]["font"] is False
    assert {"offline"} <= {plugin for plugin in SITE["plugins"] if isinstance(plugin, str)}
    assert SITE["site_dir"] in [line.strip("/") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").split()]
