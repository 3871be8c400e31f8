"""The Python side of a live page: runs cells, carries outputs and widget messages.

It talks to the page through one function that takes JSON and binary buffers (``connect``), and is otherwise plain
Python, so tests run it without a browser. Not supported: magics, ``!`` and ``?``, which need a real IPython.
"""

from kvmlive.channel import connect
from kvmlive.comms import comm_message, install_comms
from kvmlive.output_widget import install_output_widget
from kvmlive.shell import reset as begin
from kvmlive.shell import run_cell
from kvmlive.sinks import install_streams

__all__ = ["begin", "comm_message", "connect", "install", "run_cell"]


def install() -> None:
    """Put this page's own ends in place of a kernel's. Once per Python; a memory snapshot keeps it."""
    install_comms()
    install_streams()
    install_output_widget()
