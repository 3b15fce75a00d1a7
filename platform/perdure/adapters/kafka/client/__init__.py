"""Requests and reads of any process, through Kafka."""
