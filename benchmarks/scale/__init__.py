"""What sessions of a million messages and databases of ten thousand sessions cost."""
