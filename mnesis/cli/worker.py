"""`mnesis worker`: join a stored map run or delegation."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mnesis.cli.database_option import DatabaseOption, db_option, existing_database_path, json_option
from mnesis.cli.output import clean_line, pluralize, print_json

if TYPE_CHECKING:
    from mnesis.models.run import MapRun


class _CodeName(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """The name of an object in a module, as module:name."""

    name = "module:name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        module_name, _, attribute = str(value).partition(":")
        try:
            if not module_name or not attribute:
                raise ImportError("write it as module:name")
            sys.path.insert(0, str(Path.cwd()))
            try:
                return getattr(import_module(module_name), attribute)
            finally:
                sys.path.pop(0)
        except (ImportError, AttributeError, ValueError) as error:
            self.fail(f"{value!r} cannot be imported: {error}", param, ctx)


@click.command(
    "worker",
    short_help="Work on a stored map run, together with other workers.",
    epilog="Example: mnesis worker reviews-2026 --db postgresql://app@db.example/chat --concurrency 16",
)
@click.argument("run_id", metavar="RUN_ID")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    metavar="N",
    help="Items processed at the same time; by default as many as the process that started the run.",
)
@click.option(
    "--tools",
    "tools",
    type=_CodeName(),
    multiple=True,
    metavar="MODULE:NAME",
    help="A tool of the run's agents, or a list of tools. Repeat it for more.",
)
@click.option(
    "--schema",
    type=_CodeName(),
    metavar="MODULE:CLASS",
    help="The class of the answers, if its own code validates them.",
)
@click.option(
    "--stop", type=_CodeName(), metavar="MODULE:NAME", help="The function that decides when an agent is finished."
)
@click.option(
    "--stall-seconds",
    type=click.FloatRange(min=0.001),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for inputs that are missing.",
)
@json_option
@db_option
def command(
    run_id: str,
    concurrency: int | None,
    tools: tuple[Any, ...],
    schema: Any,
    stop: Any,
    stall_seconds: float,
    as_json: bool,
    db: DatabaseOption,
) -> None:
    """Process items of a map or delegation until every item is finished. Start it on as many machines as you like.

    Prompt, schema, model and options come from the database. Keys come from the environment, as for every model call;
    code such as tools is imported from the modules that you name. Each result is stored once, even if a worker dies.
    The exit code is 1 if items failed, or if inputs are missing because the process that started the run stopped.
    """
    named = [tool for each in tools for tool in (each if isinstance(each, list | tuple) else [each])]
    options = {"concurrency": concurrency, "tools": named, "output_schema": schema, "stop": stop}
    run = asyncio.run(_work(db, run_id, {**options, "stall_seconds": stall_seconds, "progress": True}))
    if as_json:
        print_json(asdict(run) | {"usage": run.usage.model_dump()})
    else:
        print(describe_run(run))
    if run.failed or not run.is_finished:
        sys.exit(1)


async def _work(db: DatabaseOption, run_id: str, options: Any) -> MapRun:
    from mnesis.engine.engine import Engine
    from mnesis.operators.join import join_run

    async with Engine(existing_database_path(db), config=db.config()) as engine:
        return await join_run(engine, run_id, **options)


def describe_run(run: MapRun) -> str:
    """Describe the state of a run for people, in one line."""
    counts = f"{run.done:,} done, {run.failed:,} failed of {pluralize(run.item_count, 'item')}"
    if run.total is None:
        counts += "; inputs are missing, because the process that started the run stopped: run it again"
    return clean_line(f"run {run.id}: {counts}, {run.attempts:,} attempts, ${run.cost:.4f}")
