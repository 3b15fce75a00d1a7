"""Adapters, by technology. Each implements ports of the engine, of clients or of `perdure.ports`;
none imports another, except those that it is built on.
"""
