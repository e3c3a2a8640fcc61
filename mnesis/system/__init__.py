"""Processes and files of the operating system: live processes, open files, and unfinished files."""
