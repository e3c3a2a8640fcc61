"""The active context and a budget in, a window out. Pure functions."""
