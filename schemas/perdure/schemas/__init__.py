"""The Avro schemas of every topic."""
