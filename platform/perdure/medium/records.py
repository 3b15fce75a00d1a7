"""Records as they lie on disk: msgpack of the model's structs."""

from __future__ import annotations

from typing import Final

from msgspec import msgpack

from perdure.model.commands import AnyCommand
from perdure.model.events import EventRecord
from perdure.model.replies import AnyReply
from perdure.model.states import WorkflowState
from perdure.model.tasks import Task

encode: Final = msgpack.Encoder().encode
decode_event_record: Final = msgpack.Decoder(EventRecord).decode
decode_state: Final = msgpack.Decoder(WorkflowState).decode
decode_task: Final = msgpack.Decoder(Task).decode
decode_command: Final = msgpack.Decoder[AnyCommand](AnyCommand).decode
decode_reply: Final = msgpack.Decoder[AnyReply](AnyReply).decode
