"""A cart that answers, and writes when it is forgotten."""
