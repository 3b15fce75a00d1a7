"""The ports of readers and operators: the projector's source, the audit trail, dead letters. The
ports of the engine and of clients are in `engine.ports` and `client.ports`.
"""
