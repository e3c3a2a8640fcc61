"""From messages to the shapes of others."""
