"""What mkdocs calls while it builds the site: pages, links, Markdown twins, ``llms.txt``."""

from __future__ import annotations

import posixpath
import re
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "build" / "pages"
"""Pages that `docs._site.pages` wrote."""

PROJECT = {
    "CHANGELOG.md": "project/changes.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "benchmarks/README.md": "project/benchmarks.md",
}
"""Files of the repository outside ``docs/`` that are pages too."""

twins: dict[str, str] = {}
"""What every page says, as Markdown, by its place in the site."""


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages and those from elsewhere in the repository."""
    from mkdocs.structure.files import File

    if not GENERATED.is_dir():
        raise SystemExit("the generated pages are missing: run `make docs`")
    for path in sorted(GENERATED.rglob("*.md")):
        uri = path.relative_to(GENERATED).as_posix()
        files.append(File.generated(config, uri, content=path.read_text(encoding="utf-8")))
    for source, uri in PROJECT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, uri, content=text))
    files.append(File.generated(config, "llms.txt", content=""))  # so that pages may link to it
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Mends links that lead out of ``docs/``, and keeps the text for the page's twin."""
    text = re.sub(r"^<!-- .*-->\n", "", markdown, flags=re.MULTILINE)
    text = relinked(text, page.file.src_uri)
    twins[page.file.src_uri] = re.sub(r"^::: (\S+)$", documented, text, flags=re.MULTILINE)
    return text


def relinked(text: str, uri: str) -> str:
    """Points links between files of the repository at pages of the site.

    Args:
        text: Markdown.
        uri: Its place in the site.
    """
    sources = {page: source for source, page in PROJECT.items()}
    source = sources.get(uri, f"docs/{uri}")

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found.groups("")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if place == "README.md":
            place = "docs/index.md"
        if place in PROJECT:
            there = PROJECT[place]
        elif place.startswith("docs/"):
            there = place.removeprefix("docs/")
        else:  # a file of the repository that is not in the site
            return f"{words} (`{place}`)"
        return f"[{words}]({posixpath.relpath(there, posixpath.dirname(uri) or '.')}{anchor})"

    return re.sub(r"(?<!!)\[([^\]\n]+)\]\(([^)#:\s]+)(#[^)\s]*)?\)", link, text)


@cache
def interface() -> Any:
    """The package as griffe reads it."""
    import griffe

    return griffe.load("baco", search_paths=[ROOT / "src"], resolve_aliases=True)


def documented(found: re.Match[str]) -> str:
    """A name of the Python interface with its docstring, for the twin of the reference."""
    item = interface()[found[1].removeprefix("baco.")]
    said = item.docstring.value if item.docstring else ""
    return f"## `{found[1]}`\n\n```text\n{said.strip()}\n```"


def on_post_build(config: Any) -> None:
    """Writes twins and ``llms.txt``, and refuses a site that loads anything from elsewhere."""
    site = Path(config["site_dir"])
    for uri, text in twins.items():
        (site / uri).write_text(text, encoding="utf-8")
    (site / "llms.txt").write_text(_contents(config), encoding="utf-8")
    loaded = [
        f"{path.relative_to(site)}: {address}"
        for path in sorted(site.rglob("*"))
        if path.suffix in {".html", ".css"}
        for address in loads(path.read_text(encoding="utf-8"))
    ]
    if loaded:
        raise SystemExit("pages load from elsewhere:\n" + "\n".join(loaded))


LOADS = (
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\s(?:src|srcset)=[\"']?((?:https?:)?//[^\"'\s>]+)",
    r"<link\b[^>]*?\shref=[\"']?((?:https?:)?//[^\"'\s>]+)",
    r"url\([\"']?((?:https?:)?//[^\"')]+)",
    r"@import\s+[\"']((?:https?:)?//[^\"']+)",
)


def loads(text: str) -> list[str]:
    """Returns addresses elsewhere that a browser would fetch by itself from HTML or CSS."""
    return [found for pattern in LOADS for found in re.findall(pattern, text)]


def _contents(config: Any) -> str:
    """The list of pages for language models (llmstxt.org)."""
    lines = [f"# {config['site_name']}", "", f"> {config['site_description']}", ""]

    def walk(items: list[Any]) -> None:
        for item in items:
            (title, inside), *_ = item.items()
            if isinstance(inside, list):
                lines.extend([f"## {title}", ""])
                walk(inside)
                lines.append("")
            else:
                lines.append(f"- [{title}]({inside}): {_summary(twins[inside])}")

    walk(config["nav"])
    return "\n".join(lines).strip() + "\n"


def _summary(text: str) -> str:
    """The first sentence of a page's first paragraph."""
    for block in text.split("\n\n"):
        if re.match(r"[\w`*\[]", block):
            plain = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", " ".join(block.split()))
            return re.split(r"(?<=[.!?:]) ", plain)[0]
    return ""
