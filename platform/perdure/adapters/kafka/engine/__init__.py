"""The engine's log on Kafka: commands in, one transaction a batch out, exactly once; and how
partitions change owners.
"""
