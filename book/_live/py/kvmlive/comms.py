"""Widget messages: ``comm``'s interface on top of the channel to the page."""

import json
import os
from typing import Any

from kvmlive import channel, sinks
from kvmlive.shell import show_error


def install_comms() -> None:
    os.environ["JUPYTER_WIDGETS_ECHO"] = "0"  # one page, one front end: echoes would only double the messages
    import comm
    from comm.base_comm import BaseComm

    class PageComm(BaseComm):
        def publish_msg(
            self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **keys: Any
        ) -> None:
            content = {"comm_id": self.comm_id, "data": data or {}, **{k: v for k, v in keys.items() if v}}
            channel.post(
                {
                    "type": msg_type,
                    "comm_id": self.comm_id,
                    "parent": channel.parent_id,
                    "content": content,
                    "metadata": metadata or {},
                },
                buffers or (),
            )

    comm.create_comm = PageComm


def comm_message(payload: str, buffers: Any) -> None:
    """A widget's message from the page. Always answered by "idle": until then the widget holds back its next change."""
    import comm

    message = json.loads(payload)
    channel.parent_id = message["msg_id"]
    try:
        target = comm.get_comm_manager().get_comm(message["comm_id"])
        if target is not None:
            views = [memoryview(b) for b in buffers]
            target.handle_msg({"content": {"comm_id": message["comm_id"], "data": message["data"]}, "buffers": views})
    except BaseException as error:
        show_error(error)
    finally:
        sinks.flush()
        channel.post({"type": "idle", "msg_id": message["msg_id"]})
        channel.parent_id = ""
