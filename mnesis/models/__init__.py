"""Frozen values. They know nothing of stores, providers or frameworks."""
