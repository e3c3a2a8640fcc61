"""The help of every command as Markdown pages, docs/cli.md and docs/reference/commands-*.md.

`python docs/generate.py` writes them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import click

from mnesis.cli.app import cli
from mnesis.cli.json_output import OUTPUTS, JsonOutput, describe

INTRODUCTION = """\
# Command line

`mnesis` inspects and maintains databases, moves sessions between them, and demonstrates the library. It is installed with the
package. Try it without an API key:

```console
$ mnesis demo --keep demo.db
$ mnesis ls --db demo.db
$ mnesis chat --mock
```

- The database is `--db`, then `MNESIS_DB`, then `~/.mnesis/sessions.db`. Commands that only read do not create a database,
  write to it or hold a transaction open. The exception is `search`, which updates its index. `--timeout` sets how long to
  wait for another process that has locked the database.
- Ids of sessions, summaries and messages can be shortened to any unique prefix. An ambiguous prefix is an error that lists the
  candidates.
- Data goes to standard output, messages to standard error. Output is coloured only on a terminal, and not if `NO_COLOR` is
  set. A reader that closes the pipe early is not an error.
- `--json` prints one JSON document in ASCII, `--jsonl` one object per line. The pages of the commands list the fields;
  `mnesis schema COMMAND` prints them as JSON Schema. `?` after a name means that the field may be missing. Names with a capital
  letter are classes, described in the reference. Times are in milliseconds since 1970, costs in US dollars.
- Session content cannot control the terminal: control characters and marks that reorder text appear as `\N{REPLACEMENT CHARACTER}`.
- A line break in an id or a name appears as such a mark too, so it cannot start another row.
- `mnesis completion bash` (or `zsh`, `fish`) prints the script that completes commands, options and session ids.
- A mistyped command or id gets a suggestion.
- Exit codes: 0 done, 1 a problem was found, 2 wrong usage or unknown id, 3 the database cannot be used.
"""


@dataclass(frozen=True)
class Group:
    """Commands that serve one purpose, and the name and title of their page."""

    page: str
    title: str
    commands: tuple[str, ...]


GROUPS = (
    Group("start", "Try and serve", ("demo", "chat", "inspect", "mcp")),
    Group("look", "Look at sessions", ("ls", "show", "context", "dag", "timeline", "stats")),
    Group("find", "Find what was said", ("search", "grep", "expand")),
    Group("change", "Move, continue and shrink sessions", ("export", "import", "fork", "compact", "purge", "worker")),
    Group("check", "Check, seal and rescue", ("doctor", "verify", "seal", "salvage")),
    Group("maintain", "Maintain a database", ("backup", "rekey", "reindex", "migrate")),
    Group("shell", "Schemas and completion", ("schema", "completion")),
)


def command_pages() -> dict[str, str]:
    """Return the pages by their paths in docs/. They do not depend on the terminal, the environment or the time."""
    return {"cli.md": _overview(), **{_path(group): _page(group) for group in GROUPS}}


def _path(group: Group) -> str:
    return f"reference/commands-{group.page}.md"


def _overview() -> str:
    rows = (
        f"| {group.title} | [`{name}`]({_path(group)}#mnesis-{name}) | {_command(name).get_short_help_str(limit=100)} |"
        for group in GROUPS
        for name in group.commands
    )
    return "\n".join([INTRODUCTION, "| purpose | command | what it does |\n|---|---|---|", *rows, ""])


def _page(group: Group) -> str:
    head = f"# Commands: {group.title.lower()}\n\nWhat holds for all commands is in [Command line](../cli.md).\n"
    return "\n".join([head, *map(_section, group.commands)])


def _command(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    if command is None:
        raise click.UsageError(f"{name!r} is not a command")
    return command


def _section(name: str) -> str:
    command = _command(name)
    example = (command.epilog or "").removeprefix("Example: ")
    return "\n".join(
        [
            f"## mnesis {name}\n",
            f"```text\n{_usage(name, command)}\n```\n",
            f"{inspect.cleandoc(command.help or '')}\n",
            "| option | what it does |\n|---|---|",
            *_options(command),
            f"\nExample: `{example}`\n",
            *_json_output(name),
        ]
    )


def _json_output(name: str) -> Iterator[str]:
    output = OUTPUTS.get(name, JsonOutput())
    for option, notation in (("--json", output.document), ("--jsonl", output.line)):
        if notation is not None:
            what = "prints" if option == "--json" else "prints, per line"
            yield f"`{option}` {what}:\n\n```text\n{describe(notation)}\n```\n"


def _usage(name: str, command: click.Command) -> str:
    arguments = (str(each.metavar or each.name).upper() for each in command.params if isinstance(each, click.Argument))
    return " ".join(["mnesis", name, *arguments, "[OPTIONS]"])


def _options(command: click.Command) -> Iterator[str]:
    for option in command.params:
        if isinstance(option, click.Option):
            names = ", ".join(f"`{name}`" for name in option.opts)
            yield f"| {names}{_value(option)} | {_escape(option.help or '')}{_default(option)} |"


def _value(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return " " + _escape(" | ".join(f"`{choice}`" for choice in option.type.choices))
    return f" {_escape(option.metavar)}" if option.metavar else " N"


def _default(option: click.Option) -> str:
    return f" Default: {option.default}." if option.show_default and not option.is_flag else ""


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
