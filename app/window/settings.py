"""What the user has chosen, as one value: of the window, and of the session by profiles.

A profile remembers what was chosen while it was in use. Values are checked here, wherever they
come from. Not here: the file they lie in (``settings_file``), and what follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeGuard

VERSION = 1
"""Of the form in which settings are written."""

WRITER = "written_by"
"""Names the version that wrote last, where ``version`` is a newer one's."""

LONGEST_NAME = 40
MOST_PROFILES = 50
CHOICES = {
    "start_on": ("last", "on", "off"),
    "start_muted": ("no", "yes", "last"),
    "theme": ("system", "light", "dark", "contrast"),
}
"""Words that a setting may be; the first is what it is at first."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a session is to be like somewhere."""

    name: str
    input: str | None = None
    """None: the system's default."""
    output: str | None = None
    """None: the Denoised Microphone."""
    model: str | None = None
    """None: the program's default."""
    limit_db: float = 100.0
    """0…100; 100 is no limit."""
    monitor: bool = False
    speakers: bool = False
    """Whether what the others send is cleaned too."""
    rest: Mapping[str, Any] = field(default_factory=dict)
    """What another version of the program has written and this one does not know."""

    def wishes(self) -> dict[str, Any]:
        """Named as in the control's requests and in ``options_for``."""
        return {name: getattr(self, name) for name in WISHES}


WISHES = ("input", "output", "model", "limit_db", "monitor", "speakers")

FIRST_PROFILES = (
    Profile("home"),
    # Others sit near; what a limit leaves of a steady room sounds more natural than silence.
    Profile("office", limit_db=30.0),
    Profile("train"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that is remembered between two starts."""

    profile: str = FIRST_PROFILES[0].name
    """Name of the one in use."""
    profiles: tuple[Profile, ...] = FIRST_PROFILES
    start_on: str = "last"
    """Whether an engine that the window starts cleans: as it was left, or always the same."""
    start_muted: str = "no"
    was_on: bool = True
    was_muted: bool = False
    theme: str = "system"
    language: str = "system"
    """A code such as ``es``, or the system's."""
    start_minimised: bool = False
    close_to_tray: bool = True
    """Where there is a tray."""
    notifications: bool = True
    shortcut: bool = True
    """Whether to ask the desktop for a global shortcut."""
    shortcut_keys: str = "CTRL+ALT+d"
    """Wished for, in the form of the XDG shortcuts specification; the desktop decides."""
    help_seen: bool = False
    tray_told: bool = False
    """Whether the user has been told once that a closed window goes on in the tray."""
    version: int = VERSION
    rest: Mapping[str, Any] = field(default_factory=dict)
    """As a profile's."""

    @property
    def current(self) -> Profile:
        """The profile in use."""
        return next((one for one in self.profiles if one.name == self.profile), self.profiles[0])

    def starts_on(self) -> bool:
        """Whether a new engine is to clean."""
        return self.was_on if self.start_on == "last" else self.start_on == "on"

    def starts_muted(self) -> bool:
        """Whether a new engine is to be silent."""
        return self.was_muted if self.start_muted == "last" else self.start_muted == "yes"

    def with_wishes(self, wishes: Mapping[str, Any]) -> Settings:
        """As this, the profile in use remembering what of ``wishes`` it knows."""
        known = {name: wishes[name] for name in WISHES if name in wishes}
        changed = replace(self.current, **known)
        profiles = tuple(changed if one is self.current else one for one in self.profiles)
        return replace(self, profiles=profiles)

    def in_use(self, name: str) -> Settings:
        """As this, with another profile in use; raises ValueError when there is none."""
        self._found(name)
        return replace(self, profile=name)

    def added(self, name: str) -> Settings:
        """As this, with a new profile in use that is as the last; raises ValueError."""
        name = self._free(name)
        if len(self.profiles) >= MOST_PROFILES:
            raise ValueError(f"there are {MOST_PROFILES} profiles already")
        new = replace(self.current, name=name)
        return replace(self, profiles=(*self.profiles, new), profile=name)

    def renamed(self, name: str, new_name: str) -> Settings:
        """As this, a profile under another name; raises ValueError."""
        found = self._found(name)
        new_name = self._free(new_name, besides=name)
        profiles = tuple(
            replace(one, name=new_name) if one is found else one for one in self.profiles
        )
        in_use = new_name if self.profile == name else self.profile
        return replace(self, profiles=profiles, profile=in_use)

    def without(self, name: str) -> Settings:
        """As this, without a profile; raises ValueError when it is the last."""
        found = self._found(name)
        profiles = tuple(one for one in self.profiles if one is not found)
        if not profiles:
            raise ValueError("the last profile stays")
        in_use = profiles[0].name if self.profile == name else self.profile
        return replace(self, profiles=profiles, profile=in_use)

    def _found(self, name: str) -> Profile:
        for one in self.profiles:
            if one.name == name:
                return one
        raise ValueError(f"there is no profile {name!r}")

    def _free(self, name: str, besides: str | None = None) -> str:
        name = " ".join(name.split())
        if not _is_name(name):
            raise ValueError(f"a profile's name has 1…{LONGEST_NAME} characters")
        taken = {one.name.casefold() for one in self.profiles if one.name != besides}
        if name.casefold() in taken:
            raise ValueError(f"there is a profile {name!r} already")
        return name


def as_dict(settings: Settings) -> dict[str, Any]:
    """As JSON can hold it; ``from_dict`` is its inverse."""
    told = _plain(settings)
    told["profiles"] = [_plain(one) for one in settings.profiles]
    told[WRITER] = VERSION
    return told


def _plain(one: Settings | Profile) -> dict[str, Any]:
    known = {each.name: getattr(one, each.name) for each in fields(one) if each.name != "rest"}
    return {**one.rest, **known}


def from_dict(told: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """Settings of a form that has been brought up to date.

    Returns
    -------
    the settings, and a line on each value that made no sense; the default stands for it
    """
    wrong: list[str] = []
    found = _checked(Settings(), told, wrong, "")
    listed = told.get("profiles", [])
    profiles: list[Profile] = []
    taken: set[str] = set()
    for one in listed if isinstance(listed, list) else []:
        name = one.get("name") if isinstance(one, dict) else None
        if not _is_name(name) or name.casefold() in taken or len(profiles) >= MOST_PROFILES:
            wrong.append("profiles: one without a name of its own, or one too many")
            continue
        taken.add(name.casefold())
        profiles.append(_checked(Profile(name), one, wrong, f"{name}: "))
    if not profiles:
        if "profiles" in told:
            wrong.append("profiles: there are none")
        profiles = list(FIRST_PROFILES)
    found = replace(found, profiles=tuple(profiles))
    return replace(found, profile=found.current.name), wrong


def _is_name(name: Any) -> TypeGuard[str]:
    if not isinstance(name, str) or not name.isprintable():
        return False
    return 0 < len(name) <= LONGEST_NAME and name == " ".join(name.split())


def _checked(default: Any, told: Mapping[str, Any], wrong: list[str], of: str) -> Any:
    """``default`` with what of ``told`` fits its fields; what it does not know is kept apart."""
    values: dict[str, Any] = {}
    names = [each.name for each in fields(default) if each.name not in ("rest", "profiles")]
    for name in names:
        if name not in told:
            continue
        fits, value = _fitting(name, told[name], getattr(default, name))
        if fits:
            values[name] = value
        else:
            wrong.append(f"{of}{name}: {str(told[name])[:40]!r}")
    rest = {name: told[name] for name in told if name not in (*names, "profiles", "rest", WRITER)}
    return replace(default, **values, rest=rest)


def _fitting(name: str, value: Any, default: Any) -> tuple[bool, Any]:
    if isinstance(default, bool):
        return isinstance(value, bool), value
    if name == "limit_db":
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0.0 <= value <= 100.0:  # False for NaN; an int may be beyond any float
            return False, value
        return True, float(value)
    if isinstance(default, int):
        return isinstance(value, int) and not isinstance(value, bool) and value > 0, value
    if name in CHOICES:
        return value in CHOICES[name], value
    if value is None:
        return default is None, value
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= 1000, value
