"""What is materialised in PostgreSQL: tables of workflows and events, typed views, and who reads and writes them.

The only package that imports psycopg. May import `engine`, `client` and what is below them; no Kafka: what is projected comes in by
`medium.projection.Source`. Everything of a namespace lies in one SQL schema of the same name (`database.py`). Start reading at `projector.py`; the tables
are in `migrations/`.
"""
