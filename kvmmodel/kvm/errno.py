"""Linux's error numbers on x86. Not Python's errno: in a browser that has other numbers, EINVAL for one is 28."""

from __future__ import annotations

ENXIO = 6
EAGAIN = 11
EEXIST = 17
EINVAL = 22
EOPNOTSUPP = 95
