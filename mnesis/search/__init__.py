"""Full-text search: indexing messages, analysing queries, ranking matches. Pure functions, no I/O."""
