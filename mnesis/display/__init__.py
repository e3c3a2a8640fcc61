"""Plain data rendered as text, HTML and rich console output. Does not depend on the models."""
