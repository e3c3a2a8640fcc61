"""Clients for language models, behind one small interface."""
