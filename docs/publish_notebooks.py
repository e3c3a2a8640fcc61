"""Hook of the documentation site: each notebook becomes a page, with its outputs and pictures.

A notebook `notebooks/NN_name.ipynb` becomes the page `notebooks/NN_name.md`. Nothing is executed.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
# What a browser would fetch or run does not belong into a page.
_ACTIVE = re.compile(r"<(script|iframe|object|embed)\b.*?</\1>", re.DOTALL | re.IGNORECASE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page, and its pictures, for each notebook. Called by mkdocs."""
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        markdown, pictures = convert(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=markdown))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def convert(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by name."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.setdefault("language_info", {"name": "python"})
    exporter = MarkdownExporter()
    markdown, resources = exporter.from_notebook_node(
        notebook, resources={"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    )
    markdown = _ACTIVE.sub("", markdown).replace("![png](", "![The plot that the code above draws](")
    return markdown, dict(resources.get("outputs", {}))
