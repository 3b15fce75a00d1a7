"""Everything on Apache Kafka; the only package that imports confluent_kafka.

Rooms, from what the others stand on: `namespace` (topics), `schema_registry`, `clients`
(librdkafka), `engine` (the log: commands in, one transaction a batch out), then `worker`, `client`,
`ingest`, `projection` and `admin`. docs/internals/kafka.md explains the protocol; start reading at
`engine/log.py`, which puts together `transaction.py` (what a commit does), `membership.py`
(partitions come and go), `takeover.py` (a new owner brings the store to where the log is) and
`pending_commands.py` (records become commands).
"""
