"""Hooks of the site: the documents at the root of the repository become pages, README.md the first of them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Documents outside docs/, with their pages."""
FILES = {"LICENSE": "licence.txt", "NOTICE": "notice.txt", "results/studies.csv": "studies.csv"}
DECISIONS = "docs/decisions"
LINK = re.compile(r"(?<=\]\()(?P<path>[^)#\s]+)(?=[)#])")
COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of documents outside docs/, and a list of the decisions."""
    from mkdocs.structure.files import File

    for source, page in (PAGES | FILES).items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, "decisions/index.md", content=list_decisions()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make the links of a page lead to pages of the site."""
    sources = {page: source for source, page in PAGES.items()}
    path = page.file.src_uri
    return COMMENT.sub("", adapt_links(markdown, sources.get(path, f"docs/{path}"), path))


def list_decisions() -> str:
    """Return a page with a link to each decision."""
    lines = ["# Decisions", ""]
    for path in sorted((ROOT / DECISIONS).glob("*.md")):
        title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        lines.append(f"- [{title}]({path.name})")
    return "\n".join([*lines, ""])


def adapt_links(markdown: str, source: str, page: str) -> str:
    """Rewrite links between documents of the repository as links between pages of the site.

    Args:
        markdown: The text.
        source: The document's path in the repository, such as "docs/network.md".
        page: The page's path in the site, such as "network.md".
    """

    def adapt(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match["path"]))
        if "://" in match["path"] or not (ROOT / path).exists():
            return match["path"]
        target = (PAGES | FILES | {DECISIONS: "decisions/index.md"}).get(path, path.removeprefix("docs/"))
        return posixpath.relpath(target, posixpath.dirname(page) or ".")

    return LINK.sub(adapt, markdown)
