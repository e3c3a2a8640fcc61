"""The metadata of the distribution and of the thin distributions, and the READMEs that they show."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from distributions.build import DISTRIBUTIONS, ThinDistribution, project_metadata, write_source
from tests.docs.pages import ROOT, python_blocks
from tests.support.warm_python import run_python

METADATA = project_metadata()
NEEDS = {
    "langchain-mnesis": "langchain_core",
    "llama-index-memory-mnesis": "llama_index.core",
    "agents-mnesis": "agents",
    "pydantic-ai-mnesis": "pydantic_ai",
}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: each.name)
def test_a_thin_distribution_depends_on_its_extras_of_this_version(
    distribution: ThinDistribution, tmp_path: Path
) -> None:
    source = write_source(distribution, tmp_path)
    assert sorted(path.name for path in source.iterdir()) == ["LICENSE", "README.md", "pyproject.toml"]
    project = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["project"]
    main = METADATA["project"]
    extras = ",".join(distribution.extras)
    assert set(distribution.extras) <= main["optional-dependencies"].keys()
    assert project["dependencies"] == [f"{main['name']}[{extras}]=={main['version']}"]
    assert project["version"] == main["version"]
    assert project["urls"] == main["urls"]


def test_llamahub_finds_the_classes_that_are_exported(tmp_path: Path) -> None:
    (distribution,) = [each for each in DISTRIBUTIONS if each.is_listed_in_llamahub]
    source = write_source(distribution, tmp_path)
    thin = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["tool"]["llamahub"]
    assert thin == METADATA["tool"]["llamahub"]
    pytest.importorskip("llama_index.core")
    import importlib

    module = importlib.import_module(thin["import_path"])
    assert all(hasattr(module, name) for name in thin["class_authors"])


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda each: each.name)
def test_the_readme_of_an_adapter_runs_and_has_absolute_links(distribution: ThinDistribution, tmp_path: Path) -> None:
    text = distribution.readme.read_text("utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    repository = METADATA["project"]["urls"]["Repository"]
    assert links
    assert all(link.startswith(f"{repository}/") for link in links)
    for link in links:  # what they point to exists in this repository
        path = link.removeprefix(repository).removeprefix("/blob/main/").removeprefix("/tree/main/")
        assert path == "/issues" or (ROOT / path).exists()
    pytest.importorskip(NEEDS[distribution.name])
    (block,) = python_blocks(distribution.readme)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    outcome = run_python(["-c", block.text], cwd=tmp_path, env=environment, has_mnesis=True)
    assert outcome.returncode == 0, outcome.stderr
