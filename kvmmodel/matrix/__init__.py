"""Every kernel series on every processor, AVIC off and on: what a guest's APIC then is, and what accesses cost.

``python -m kvmmodel.matrix`` runs all of it, every scenario included.
"""

from kvmmodel.matrix.hosts import CPUS, hosts
from kvmmodel.matrix.scenarios import outcome
from kvmmodel.matrix.table import block, table

__all__ = ["CPUS", "block", "hosts", "outcome", "table"]
