"""What MkDocs has to be told about these pages; `mkdocs.yml` names this file.

Pages that lie outside docs/ (recipes, cards, CONTRIBUTING, CHANGELOG) become part of
the site. Links are written as the files lie in the repository, so that they work there
and in the site. Equations in blocks of ``math``, which GitHub draws too, become MathML,
which browsers draw without a script.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OUTSIDE = (
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    *("recipes/README-*.md", "pretrained/*/README.md"),
)
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")
MATH = re.compile(r"^```math\n(.*?)^```", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside docs/, under their paths in the repository."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(text: str, page: Any, config: Any, files: Files) -> str:
    """Turn links of the repository into those of the site, equations into MathML."""
    uri = page.file.src_uri
    outside = any(Path(uri).match(pattern) for pattern in OUTSIDE)
    here = posixpath.dirname(uri if outside else f"docs/{uri}")

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, found[1]))
        target = "docs/index.md" if target == "README.md" else target
        site = target.removeprefix("docs/")
        start = posixpath.dirname(uri)
        return f"]({posixpath.relpath(site, start or '.')}{found[2] or ''})"

    return MATH.sub(_mathml, LINK.sub(link, text))


def _mathml(found: re.Match[str]) -> str:
    equation = convert(" ".join(found[1].split()), display="block")
    return f'<div style="overflow: auto hidden">{equation}</div>'
