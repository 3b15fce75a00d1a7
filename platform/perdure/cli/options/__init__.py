"""Options that several commands share, by subject, and their defaults from `perdure.toml`."""
