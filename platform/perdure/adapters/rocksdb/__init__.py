"""The store of the Kafka engine: one RocksDB for each partition that is owned, a cache of
`<namespace>.events`.

`store.py` is `engine.ports.Store`; `restorer.py` brings a partition to where the events topic is
(what `adapters.kafka.engine.ports.Restorer` asks for), in the rounds of `rounds.py`; `partition.py`
is one RocksDB, `changes.py` its atomic changes; `directory.py` trusts none it has not checked;
`keys.py` and `values.py` are the layout. The only package that imports rocksdict.

May import `codec`, `core`, `model` and `errors`. docs/internals/store.md explains it; start reading
at `store.py`.
"""
