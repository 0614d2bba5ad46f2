"""A small event file by TensorBoard's own writer, for `bunny-train/src/run/events.rs`.

    pip install tensorboard
    python tests/reference/events.py
"""

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


def scalars(values):
    return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])


EVENTS = [
    Event(wall_time=1.5, file_version="brain.Event:2"),
    Event(wall_time=1.5, step=300, session_log=SessionLog(status=SessionLog.START)),
    Event(wall_time=2.25, step=300, summary=scalars({"train/loss": 0.75, "eval/loss": -3e-5})),
    Event(wall_time=3.0, step=70_000, summary=scalars({"train/learning_rate": 2e-4})),
]

if __name__ == "__main__":
    path = Path(__file__).parent.parent / "fixtures/training/events.tfevents"
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for event in EVENTS:
            writer.write(event.SerializeToString())
        writer.flush()
