"""The platform on Kafka: an engine, a worker, or both in one process, wired.

    platform = KafkaPlatform(Registry.of_everything_imported(), Place("shop", {"bootstrap.servers":
    "localhost:9092"}), engine=EngineOptions())

May import everything but `cli` and `api`. Start reading at `platform.py`.
"""

from perdure.distributed.options import EngineOptions, Place, WorkerOptions
from perdure.distributed.platform import KafkaPlatform

__all__ = ["EngineOptions", "KafkaPlatform", "Place", "WorkerOptions"]
