"""Messages as a store keeps them, for tests of codecs."""

from __future__ import annotations

from mnesis.models.message import Message
from mnesis.store.codec import EncodedMessage, encode_message, hash_of


def stored_at_first(message: Message) -> EncodedMessage:
    """Encode a message as the first one of session "s"."""
    encoded = encode_message(message)
    return encoded._replace(stored_hash=hash_of("s", 1, encoded))
