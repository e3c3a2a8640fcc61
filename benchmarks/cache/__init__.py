"""Effect of context strategies on a provider's prompt cache, and their cost."""
