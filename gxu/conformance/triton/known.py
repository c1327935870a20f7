"""Cases that cannot pass, each with its reason. The suite is strict: one that passes must leave this table."""

from __future__ import annotations

_ALIASES = "Triton's frontend carries two names of one value through a loop as one, so they cannot part in it"

#: Patterns (as a shell's) of case names, and the reason.
EXPECTED_FAILURES: dict[str, str] = {
    "for * two names of one value n=13 *": _ALIASES,
    "for * two names of one value n=64 *": _ALIASES,
}
