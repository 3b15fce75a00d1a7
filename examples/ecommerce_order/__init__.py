"""E-commerce order: a shop that is not ours puts orders into a topic; each is reserved, charged and
shipped, or undone."""
