"""Adapters, by technology. Each implements ports of the engine, of clients or of `perdure.ports`;
none imports another but for what it is built on.
"""
