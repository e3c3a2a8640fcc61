"""`ConversionCache`: a record is converted once, readers share nothing, and a changed record is converted again."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from typing import Any

from mnesis.models.message import Message, TextPart, ToolPart
from mnesis.session.conversion_cache import MAX_CACHED_SESSIONS, ConversionCache


def record(number: int, text: str = "text", **fields: Any) -> Message:
    return Message(id=f"m{number}", seq=number, role="user", parts=(TextPart(text=text),), **fields)


def convert(records: Sequence[Message]) -> list[dict[str, Any]]:
    return [{"text": each.text_content(), "extra": [*each.extra]} for each in records]


def groups(*records: Message) -> list[tuple[Message, ...]]:
    return [(each,) for each in records]


def test_only_new_records_are_converted() -> None:
    cache: ConversionCache[dict[str, Any]] = ConversionCache()
    for newest in range(1, 30):  # decoded again for each window, as the store does
        window = cache.read(
            "s", groups(*(record(number, extra={"a": {"b": 1}}) for number in range(1, newest + 1))), convert
        )
        assert window == [[{"text": "text", "extra": ["a"]}]] * newest
        assert cache.conversions == newest


def test_readers_share_nothing() -> None:
    cache: ConversionCache[dict[str, Any]] = ConversionCache()
    for _ in range(3):
        ((message,),) = cache.read("s", groups(record(1, extra={"a": 1})), convert)
        assert message == {"text": "text", "extra": ["a"]}
        message["extra"].append("changed")
        message["text"] = "changed"


class CountingDict(dict[str, Any]):
    """A dict that counts how often it is compared."""

    comparisons = 0

    def __eq__(self, other: object) -> bool:
        CountingDict.comparisons += 1
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]


def test_records_that_were_compared_are_not_compared_again() -> None:
    cache: ConversionCache[dict[str, Any]] = ConversionCache()
    first, decoded_again = (record(1).model_copy(update={"extra": CountingDict(a=1)}) for _ in range(2))
    for shown, comparisons in ((first, 0), (first, 0), (decoded_again, 1), (decoded_again, 1), (decoded_again, 1)):
        cache.read("s", groups(shown), convert)
        assert CountingDict.comparisons == comparisons
    assert cache.conversions == 1


def test_a_record_that_differs_is_converted_again() -> None:
    call = ToolPart(tool_name="look", tool_call_id="c", input={"q": [1]})
    first = record(1)
    variants = [
        first,
        first.model_copy(update={"parts": (TextPart(text="other"),)}),
        first.model_copy(update={"parts": (*first.parts, call)}),
        first.model_copy(update={"parts": (*first.parts, call.model_copy(update={"input": {"q": [2]}}))}),
        first.model_copy(update={"extra": {"a": {"b": 1}}}),
        first.model_copy(update={"extra": {"a": {"b": 2}}}),
        first.model_copy(update={"role": "assistant"}),
        first.model_copy(update={"is_summary": True}),
        first.model_copy(update={"seq": 2}),
    ]
    cache: ConversionCache[dict[str, Any]] = ConversionCache()
    for number, variant in enumerate(variants, start=1):
        for same in (variant, variant.model_copy(deep=True)):
            assert cache.read("s", groups(same), convert) == [convert([same])]
            assert cache.conversions == number
    cache.read("s", [(variants[-1], first)], convert)
    assert cache.conversions == len(variants) + 1


def test_a_message_that_cannot_be_copied_is_converted_for_each_reader() -> None:
    cache: ConversionCache[set[str]] = ConversionCache()

    def to_sets(records: Sequence[Message]) -> list[set[str]]:
        return [{each.id} for each in records]

    for _ in range(2):
        ((message,),) = cache.read("s", groups(record(1)), to_sets)
        assert message == {"m1"}
        message.add("changed")


def test_the_cache_holds_one_window_of_each_of_the_newest_sessions() -> None:
    cache: ConversionCache[dict[str, Any]] = ConversionCache()
    cache.read("s", groups(record(1), record(2)), convert)
    cache.read("s", groups(record(2)), convert)
    cache.read("s", groups(record(1)), convert)
    assert cache.conversions == 3
    for number in range(MAX_CACHED_SESSIONS):
        cache.read(f"other-{number}", groups(record(1)), convert)
    before = cache.conversions
    cache.read("s", groups(record(1)), convert)
    assert cache.conversions == before + 1
    for empty in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert empty.conversions == 0
