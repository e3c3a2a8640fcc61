"""What a model answers in place of a summary is seen for what it is; summaries, short ones and lists too, are taken."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnesis.compaction.acceptance import rejection_reason
from tests.support.samples import sampled

SOURCE = "\n\n".join(
    [
        "User: We need to move the ticket service from MySQL to Postgres before March 14th, and the repository lives at"
        " ~/src/tickets. Please never touch the invoices table directly, because the auditors want a trail of it.",
        "Assistant: Understood. I will read db/schema.sql first and then propose a plan for the forty-two migrations.",
        "Tool bash: total 48, schema.sql, migrations, README.md, 18 GB of orders in the largest table.",
        "User: Use pgloader for the orders table, it took forty minutes last time on the staging machine.",
        "Assistant: Done. Two customers share one address: 1181 and 20934. Shall I merge them?",
        "User: Yes, keep 1181.",
    ]
    * 3
)

GOOD = {
    "a short sentence": "The ticket service moves to Postgres by March 14th.",
    "sections": "## Goal\nMove the ticket service from MySQL to Postgres before March 14th.\n\n## Facts\n- repository:"
    " ~/src/tickets\n- 42 migrations, orders table 18 GB\n\n## Decisions\n- pgloader for orders\n- customers 1181 and"
    " 20934 merged, 1181 kept\n\n## Constraints\n- never touch invoices directly (audit trail)",
    "a list of one form": "\n".join(
        f"- migration {n:03d} of MySQL: table {name} converted to Postgres, {n * 137} rows copied, checksum equal"
        for n, name in enumerate(["orders", "tickets", "piers", "boats", "crews", "fares", "users", "routes"])
    ),
    "a table": "| table | GB | to |\n|---|---|---|\n| orders | 18 | Postgres |\n| piers | 44 | Postgres |\n| crews | 7 | MySQL |",
    "who said what": "User: wants Postgres by March 14th.\nAssistant: found two customers with one address; merged them.",
    "an apology reported": "The assistant said sorry for the delay and could not help with the invoices table; the user"
    " then allowed reads of Postgres. Customers 1181 and 20934 were merged.",
    "a start with I cannot": "I cannot merge 1181 and 20934 alone, the assistant wrote; the user then said to keep 1181.",
    "Chinese": "用户要求在三月十四日之前把票务系统迁移到Postgres，不得直接修改发票表。客户1181和20934已合并，保留1181。",
    "few words": "Postgres by March 14th.",
    "a quote of the beginning, then more": SOURCE[6:260]
    + " After that the schema was read, a plan with steps for each of the migrations was proposed, pgloader was chosen for"
    " the largest table, the duplicate customers were merged into the older record, invoices were left alone for the"
    " auditors, and nothing else is open except the final cut-over, which needs a maintenance window on some Sunday.",
    "same opening words": "\n".join(
        f"- The user asked for {what}."
        for what in ("Postgres", "pgloader", "a merge into 1181", "a test", "less noise", "a report")
    ),
}

LOOP = "[USER]: Understood. I will keep that in mind.\n"
BAD = {
    "nothing": ("", "empty"),
    "blanks": (" \n\t ", "empty"),
    "role markers": ("[USER]:\n\nassistant:\n**Assistant:**\n", "role markers"),
    "a line over and over": ("The plan was made.\n" + LOOP * 30, "repeats itself"),
    "a line between others over and over": (
        "\n".join(f"{line}\nI will keep that in mind." for line in GOOD["a list of one form"].splitlines()),
        "repeats itself",
    ),
    "a sentence over and over": ("The user wants to move the service to Postgres. " * 12, "repeats itself"),
    "a phrase over and over": ("the plan and " * 40, "repeats itself"),
    "a word over and over": ("done " * 15, "repeats itself"),
    "a good start, then a loop": (
        GOOD["sections"] + "\n" + "and then it was copied to the next table " * 20,
        "repeats itself",
    ),
    "characters over and over": ("好的" * 300, "repeats itself"),
    "dots": ("." * 900, "only role markers"),
    "the transcript's beginning": (SOURCE[:420], "conversation"),
    "the transcript's beginning, other markers": ("[user] " + SOURCE[6:300], "conversation"),
    "a further transcript": (
        "User: what now?\nAssistant: I look into it.\nUser: and the piers?\nAssistant: they are fine.\n"
        "User: which ones?\nAssistant: all four of them.",
        "conversation",
    ),
    "an apology": ("I'm sorry, but I can't help with that.", "refusal"),
    "another apology": ("I apologize, but as an AI language model I am unable to summarize this.", "refusal"),
    "an inability": ("I cannot provide a summary of this conversation.", "refusal"),
    "a question back": ("Please provide the conversation you would like me to summarize.", "refusal"),
    "a German apology": ("Es tut mir leid, dabei kann ich nicht helfen.", "refusal"),
    "a Chinese apology": ("抱歉，我无法完成这个请求。", "refusal"),
    "the instructions": ("=== 0123456789abcdef ===\nGoal: the plan\n=== 0123456789abcdef ===", "instructions"),
}


def _rejection(
    summary: str, *, summary_tokens: int = 90, source_tokens: int = 600, max_tokens: int = 100
) -> str | None:
    return rejection_reason(
        summary, SOURCE, summary_tokens=summary_tokens, source_tokens=source_tokens, max_tokens=max_tokens
    )


@pytest.mark.parametrize("kind", GOOD)
def test_a_summary_is_taken_that_is(kind: str) -> None:
    assert _rejection(GOOD[kind]) is None


@pytest.mark.parametrize("kind", BAD)
def test_no_summary_is(kind: str) -> None:
    text, reason = BAD[kind]
    assert reason in str(_rejection(text))


def test_a_summary_as_large_as_its_source_is_refused_with_both_sizes() -> None:
    reason = str(_rejection(GOOD["sections"], summary_tokens=600, source_tokens=600, max_tokens=1_000))
    assert "600" in reason
    assert "not smaller" in reason


def test_a_little_over_the_limit_is_taken_and_more_is_not() -> None:
    assert _rejection(GOOD["sections"], summary_tokens=109) is None
    assert "too long" in str(_rejection(GOOD["sections"], summary_tokens=112))


def test_a_short_source_that_is_repeated_whole_is_refused() -> None:
    source = "User: The ferry to Turku leaves at seven and the tickets lie in the drawer next to the door."
    reason = rejection_reason(source[6:], source, summary_tokens=19, source_tokens=20, max_tokens=50)
    assert "conversation" in str(reason)


@settings(max_examples=sampled(200), deadline=None)
@given(
    st.one_of(
        st.text(max_size=300), st.text(st.characters(exclude_categories=()), max_size=50), st.sampled_from([SOURCE])
    ),
    st.one_of(st.text(max_size=300), st.sampled_from([SOURCE])),
    st.integers(-5, 500),
    st.integers(-5, 500),
    st.integers(-5, 500),
    st.integers(1, 60),
)
def test_it_answers_whatever_it_is_given(
    summary: str, source: str, summary_tokens: int, source_tokens: int, max_tokens: int, times: int
) -> None:
    reason = rejection_reason(
        summary * times, source, summary_tokens=summary_tokens, source_tokens=source_tokens, max_tokens=max_tokens
    )
    assert reason is None or isinstance(reason, str)
