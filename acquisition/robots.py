"""What a server's robots.txt asks of its visitors (RFC 9309).

Python's own reader knows no ``*`` and ``$`` in paths, and no pause of half a second. Not here:
who asks for the file, and who keeps to it (``downloads``).
"""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass

_LONGEST_PATTERN = 2000
"""More of a path is no rule for anybody [characters]."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Paths that may be asked for or not; the longest pattern that matches decides."""

    pattern: str
    allowed: bool

    def matches(self, path: str) -> bool:
        """Whether a path begins as the pattern says; ``*`` is anything, ``$`` the end."""
        whole = self.pattern.endswith("$")
        first, *others = self.pattern.removesuffix("$").split("*")
        if not path.startswith(first):
            return False
        if whole and not others:
            return path == first
        # One after the other from the left: no pattern takes long, whatever it is.
        at, last = len(first), len(others) - 1
        for k, piece in enumerate(others):
            if whole and k == last:
                return path.endswith(piece) and len(path) - len(piece) >= at
            found = path.find(piece, at)
            if found < 0:
                return False
            at = found + len(piece)
        return True


@dataclass(frozen=True, slots=True)
class Robots:
    """What holds for one visitor."""

    rules: tuple[Rule, ...] = ()
    delay_s: float = 0.0
    """Between two requests [s]."""

    def allows(self, url: str) -> bool:
        """Whether an address may be asked for; where rules are equally long, it may."""
        parts = urllib.parse.urlsplit(url)
        path = _plain(parts.path or "/") + (f"?{_plain(parts.query)}" if parts.query else "")
        if path == "/robots.txt":
            return True
        matching = [(len(rule.pattern), rule.allowed) for rule in self.rules if rule.matches(path)]
        return max(matching, default=(0, True))[1]


def read_robots(text: str, agent: str) -> Robots:
    """Read the rules for a visitor: those under its name, or else those for all.

    Parameters
    ----------
    agent : name of the visitor, without version; several groups of its name count together
    """
    # True: of this visitor, False: of all.
    groups: dict[bool, tuple[list[Rule], list[float]]] = {True: ([], []), False: ([], [])}
    found_own, in_rules = False, False
    named: set[bool] = set()
    for line in text.removeprefix("\ufeff").splitlines():
        key, _, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if key == "user-agent":
            if in_rules:
                named, in_rules = set(), False
            own = re.split(r"[/\s]", value.lower())[0] == agent.lower()
            found_own |= own
            named |= {True} if own else {False} if value == "*" else set()
        elif key in ("allow", "disallow"):
            in_rules = True
            if value and len(value) <= _LONGEST_PATTERN:
                for one in named:
                    groups[one][0].append(Rule(_plain(value), key == "allow"))
        elif key == "crawl-delay":
            in_rules = True
            if re.fullmatch(r"\d{1,6}(\.\d{1,6})?", value):
                for one in named:
                    groups[one][1].append(float(value))
    rules, delays = groups[found_own]
    return Robots(tuple(rules), max(delays, default=0.0))


def _plain(path: str) -> str:
    """One spelling of a path, whatever of it was written as %XX."""
    kept = "/*$?&=+;,:@!'()~%"
    decoded = re.sub(
        r"%[0-9A-Fa-f]{2}",
        lambda found: (
            letter
            if (letter := chr(int(found[0][1:], 16))).isascii()
            and (letter.isalnum() or letter in "-._~")
            else found[0].upper()
        ),
        path,
    )
    return urllib.parse.quote(decoded, safe=kept)
