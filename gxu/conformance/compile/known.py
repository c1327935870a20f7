"""Cases that cannot pass, each with its reason. The suite is strict: one that passes must leave this table."""

from __future__ import annotations

#: Patterns (as a shell's) of case names, and the reason.
EXPECTED_FAILURES: dict[str, str] = {}
