"""Access to original messages: patterns over the log, expansion of summaries, token grants, automatic recall."""
