"""LangChain messages as mnesis stores them, exactly, and back."""

from langchain_mnesis.messages.serialize import dump_message, load_message

__all__ = ["dump_message", "load_message"]
