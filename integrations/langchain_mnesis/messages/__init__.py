"""Conversion of LangChain messages to stored messages and back, without loss."""

from langchain_mnesis.messages.serialize import dump_message, load_message

__all__ = ["dump_message", "load_message"]
