"""A schema registry, and records framed for its readers."""
