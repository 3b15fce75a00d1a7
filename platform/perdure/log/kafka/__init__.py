"""The log on Apache Kafka: commands in, one transaction a batch out, exactly once.

`log.py` is the log; it puts together `transaction.py` (what a commit does), `rebalance.py` (partitions come and go), `takeover.py`
(a new owner brings the store to where the log is) and `intake.py` (records become commands). `ports.py` is what it needs of a
store. The only package that imports confluent_kafka. docs/internals/kafka.md explains it; start reading at `log.py`.
"""
