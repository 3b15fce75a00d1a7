"""A subscription that lives for years."""
