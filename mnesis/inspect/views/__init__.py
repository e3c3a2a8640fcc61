"""The content of each page: functions from a store to the values of a template."""
