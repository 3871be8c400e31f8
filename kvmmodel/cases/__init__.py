"""Facts about interrupt controllers as data, from other projects' tests: read, run in the model. See format.py."""

from kvmmodel.cases.format import CHIPS, Case, CaseError, read
from kvmmodel.cases.run import Failure, Skipped, run

__all__ = ["CHIPS", "Case", "CaseError", "Failure", "Skipped", "read", "run"]
