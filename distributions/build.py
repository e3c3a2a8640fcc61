"""Build the thin distributions of the adapters: `uv run python -m distributions.build [--out dist] [NAME…]`.

Frameworks' catalogues and users look for names such as `langchain-mnesis`. A thin distribution has no code: it depends on
`mnesis-context` of the same version with the extra that it is named for, and shows the README of its adapter. The sources are
written to a directory each; `uv build` makes the wheels and source distributions.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
INTEGRATIONS = ROOT / "integrations"


@dataclass(frozen=True)
class ThinDistribution:
    """A distribution that installs `mnesis-context` with extras."""

    name: str
    extras: tuple[str, ...]
    description: str
    readme: Path
    keywords: tuple[str, ...]
    is_listed_in_llamahub: bool = False


DISTRIBUTIONS = (
    ThinDistribution(
        "langchain-mnesis",
        ("langchain", "langchain-agents"),
        "Lossless memory for LangChain: agent middleware, a memory runnable and chat message histories.",
        INTEGRATIONS / "langchain_mnesis/README.md",
        ("langchain", "langgraph", "memory", "middleware"),
    ),
    ThinDistribution(
        "llama-index-memory-mnesis",
        ("llama-index",),
        "Lossless memory for LlamaIndex: a memory for chat engines and agents, and a chat store.",
        INTEGRATIONS / "llama_index/memory/mnesis/README.md",
        ("llama-index", "memory", "chat store"),
        is_listed_in_llamahub=True,
    ),
    ThinDistribution(
        "agents-mnesis",
        ("openai-agents",),
        "Lossless sessions for the OpenAI Agents SDK.",
        INTEGRATIONS / "agents_mnesis/README.md",
        ("openai", "agents", "session", "memory"),
    ),
    ThinDistribution(
        "pydantic-ai-mnesis",
        ("pydantic-ai",),
        "Lossless history for Pydantic AI: a capability that stores every message and fits each request.",
        INTEGRATIONS / "pydantic_ai_mnesis/README.md",
        ("pydantic-ai", "agents", "history", "memory"),
    ),
)


def project_metadata() -> dict[str, Any]:
    """Return the contents of the repository's pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def pyproject_text(distribution: ThinDistribution, metadata: dict[str, Any]) -> str:
    """Return the pyproject.toml of a thin distribution."""
    project = metadata["project"]
    requirement = f"{project['name']}[{','.join(distribution.extras)}]=={project['version']}"
    lines = [
        "[build-system]",
        f"requires = {json.dumps(metadata['build-system']['requires'])}",
        'build-backend = "hatchling.build"',
        "",
        "[project]",
        f"name = {json.dumps(distribution.name)}",
        f"version = {json.dumps(project['version'])}",
        f"description = {json.dumps(distribution.description)}",
        'readme = "README.md"',
        f"license = {json.dumps(project['license'])}",
        'license-files = ["LICENSE"]',
        f"requires-python = {json.dumps(project['requires-python'])}",
        f"keywords = {json.dumps(list(distribution.keywords))}",
        f"classifiers = {json.dumps(project['classifiers'])}",
        f"dependencies = [{json.dumps(requirement)}]",
        "",
        "[project.urls]",
        *(f"{json.dumps(name)} = {json.dumps(url)}" for name, url in project["urls"].items()),
        "",
        "[tool.hatch.build.targets.wheel]",
        "bypass-selection = true  # there is no code",
    ]
    if distribution.is_listed_in_llamahub:
        llamahub = metadata["tool"]["llamahub"]
        lines += [
            "",
            "[tool.llamahub]",
            f"contains_example = {json.dumps(llamahub['contains_example'])}",
            f"import_path = {json.dumps(llamahub['import_path'])}",
            "",
            "[tool.llamahub.class_authors]",
            *(f"{name} = {json.dumps(author)}" for name, author in llamahub["class_authors"].items()),
        ]
    return "\n".join(lines) + "\n"


def write_source(distribution: ThinDistribution, directory: Path) -> Path:
    """Write the source of a thin distribution below a directory and return where."""
    source = directory / distribution.name
    source.mkdir(parents=True)
    (source / "pyproject.toml").write_text(pyproject_text(distribution, project_metadata()), "utf-8")
    shutil.copy(distribution.readme, source / "README.md")
    shutil.copy(ROOT / "LICENSE", source / "LICENSE")
    return source


def main() -> None:
    """Build what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="distributions to build; by default all")
    parser.add_argument("--out", default="dist", help="where the wheels go")
    arguments = parser.parse_args()
    names = arguments.names or [distribution.name for distribution in DISTRIBUTIONS]
    out = Path(arguments.out).absolute()
    with tempfile.TemporaryDirectory() as directory:
        for distribution in DISTRIBUTIONS:
            if distribution.name in names:
                source = write_source(distribution, Path(directory))
                command = ["uv", "build", "--quiet", "--out-dir", str(out), str(source)]
                subprocess.run(command, check=True)  # noqa: S603  # its own paths
                print(f"{distribution.name} {project_metadata()['project']['version']} is in {out}")


if __name__ == "__main__":
    main()
