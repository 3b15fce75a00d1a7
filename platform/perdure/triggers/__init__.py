"""Decodes records of other systems into values, and the commands they trigger. Pure: nothing here
reads a topic.

    CloudEvent: what a trigger may ask for as its value

May import what `engine` may. Start reading at `binding.py`; `decoding.py` knows formats.
`adapters/kafka/ingest/ingest.py` reads Kafka, `embedded/ingesting.py` a file.
"""

from perdure.triggers.cloudevents import CloudEvent

__all__ = ["CloudEvent"]
