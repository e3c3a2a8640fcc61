"""What a strategy for the context does to a provider's prompt cache, and what that costs."""
