"""Processes and files of the operating system: which process is alive, which files are open, and which are not finished."""
