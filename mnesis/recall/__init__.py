"""The way back: patterns over the whole log, drill-down under token budgets, recall beside the newest message."""
