"""Parts that all platforms share inside one process: the exchange between engine, clients and
workers.
"""
