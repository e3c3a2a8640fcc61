"""Cost of the store and the session, as ratios to a floor measured in the same run."""
