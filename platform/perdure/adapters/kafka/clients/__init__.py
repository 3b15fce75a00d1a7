"""Kafka clients of every kind of process, and what they are asked about topics."""
