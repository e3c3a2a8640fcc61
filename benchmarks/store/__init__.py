"""What the store and the session cost, as ratios to a floor measured in the same run."""
