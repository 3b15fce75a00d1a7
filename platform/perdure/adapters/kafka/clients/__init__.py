"""Kafka clients of every kind of process, and queries about topics."""
