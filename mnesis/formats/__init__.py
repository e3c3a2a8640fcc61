"""Conversions between messages and the formats of providers and users.

Pure functions, no I/O.
"""
