"""What each page shows: functions from a store to the values of a template."""
