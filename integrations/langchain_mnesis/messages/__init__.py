"""LangChain messages as mnesis stores them, exactly, and back."""
