"""Tasks from Kafka to a worker, and its reports back."""
