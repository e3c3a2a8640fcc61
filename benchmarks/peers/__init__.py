"""mnesis and other stores of conversations, compared in one run."""
