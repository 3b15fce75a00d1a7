"""The ports of readers and operators: the projector's source, the audit trail, dead letters. Ports
of the engine and of clients are beside them.
"""
