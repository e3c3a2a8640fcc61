"""Windows: the active context, assembled for one request within a budget.

Pure functions, no I/O.
"""
