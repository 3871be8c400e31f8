"""A recording of a real kernel, held against the model's own run of the same guest."""

from kvmmodel.conform.compare import Phase, compare
from kvmmodel.conform.recording import Recording, RecordingError, read
from kvmmodel.conform.stacks import Stacks, compare_stacks

__all__ = ["Phase", "Recording", "RecordingError", "Stacks", "compare", "compare_stacks", "read"]
