"""What a training run is told: one TOML file, overridden by the command line.

Tables of the file are the dataclasses here, ``mixing.Recipe``, ``engine.spec.ModelSpec``
and, checked where Keras is loaded, ``losses.Weights`` and ``networks.Preset``. What was
used is written back whole, so that a run can be repeated from its own folder. Not here:
what the numbers do.
"""

from __future__ import annotations

import argparse
import json
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import TrainingError
from engine.spec import ModelSpec
from training.mixing import Recipe

CLASSIC = ModelSpec(
    name="classic",
    version="1",
    sample_rate=11025,
    n_fft=1024,
    hop=512,
    n_bins=250,
    window="hann",
    synthesis_window="rect",
    above="hold",
)
"""The setting of the thesis: 93 ms of sound, 46 ms apart, the bins up to 2.7 kHz."""

FULLBAND = ModelSpec(
    name="fullband",
    version="1",
    sample_rate=48_000,
    n_fft=960,
    hop=480,
    n_bins=481,
    window="sqrt_hann",
    synthesis_window="sqrt_hann",
    above="zero",
)
"""All that a microphone gives: 20 ms of sound, 10 ms apart, every bin."""

SETTINGS: Mapping[str, ModelSpec] = {"classic": CLASSIC, "fullband": FULLBAND}

KINDS = ("adam", "muon")
SCHEDULES = ("cosine", "plateau", "constant")

MIXED_ON = ("processor", "card")

FILE = "settings.toml"
"""What was used, in the run's folder."""

AS_START = "start"
"""A preset: the network whose weights are begun with."""

# The model lies in the run's folder under its name.
_NO_FILE_NAME = re.compile(r"[/\\\x00-\x1f\x7f-\x9f]|\.\.")

# What a spec says of frames. Its name and version are for whoever goes on to choose.
_FRAMES = (
    *("sample_rate", "n_fft", "hop", "n_bins", "window", "synthesis_window"),
    *("above", "floor_db", "lookahead"),
)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # False for NaN
        raise TrainingError(f"{name} should be within {low:g}…{high:g}, found {value}")


@dataclass(frozen=True, slots=True)
class Data:
    """``[data]``: what is learnt from."""

    speech: tuple[Path, ...] = ()
    """Folders of clean speech."""
    noise: tuple[Path, ...] = ()
    """Folders of noise."""
    rir: tuple[Path, ...] = ()
    """Folders of room impulse responses; simulated rooms only if there are none."""
    simulated_rooms: int = 200
    """Made once and kept in the cache; 0: simulated rooms are decaying noise, on a card
    a hundred of them."""
    dataset: Path | None = None
    """A file of ``denoise-app dataset build`` in place of all folders."""
    cache: Path | None = None
    """Folder of decoded sound; in the run's folder unless said."""
    held_out: float = 0.07
    """Largest share of the folders' sound that is kept for validation, in [0, 1)."""
    mixed_on: str = "processor"
    """Where mixtures are made: ``processor``, or ``card``, a graphics card that Keras learns on
    too, by PyTorch (``KERAS_BACKEND=torch``)."""

    def __post_init__(self) -> None:
        _within("data.held_out", self.held_out, 0.0, 0.9)
        _within("data.simulated_rooms", self.simulated_rooms, 0, 100_000)
        if self.mixed_on not in MIXED_ON:
            raise TrainingError(
                f"data.mixed_on should be one of {', '.join(MIXED_ON)}, found {self.mixed_on!r}"
            )


@dataclass(frozen=True, slots=True)
class Batch:
    """``[batch]``: what one update sees."""

    clips: int = 48
    frames: int = 96
    """Of a clip: the length of the sequences."""
    echo: int = 2
    """How often a batch is learnt from, some updates apart. Ready mixtures know no echo; what a
    card mixes is mixed anew each time, of the same voices and noises in other pairs and levels."""

    def __post_init__(self) -> None:
        _within("batch.echo", self.echo, 1, 8)
        _within("batch.clips", self.clips, 1, 100_000)
        _within("batch.frames", self.frames, 1, 1_000_000)


@dataclass(frozen=True, slots=True)
class Optimiser:
    """``[optimiser]``: what moves the weights, and how fast."""

    kind: str = "adam"
    """``adam``, or ``muon``: Adam, but for matrices between layers, which move by Muon
    (``card_muon``). Takes networks of bands and ``data.mixed_on = card``."""
    rate: float = 1e-3
    """Highest learning rate."""
    schedule: str = "cosine"
    """After the rise: ``cosine`` falls over the whole run to a hundredth, ``plateau`` falls
    when the held-out loss has stopped falling (as in the thesis), ``constant`` stays."""
    warm_up: float = 0.01
    """Share of the run in which the rate rises from a twentieth, in [0, 1)."""
    plateau_looks: int = 5
    """Looks at held-out sound without a better loss until ``plateau`` lowers the rate."""
    plateau_factor: float = 0.5
    """By which ``plateau`` multiplies it, in (0, 1)."""
    clip: float = 5.0
    """Largest norm of all gradients together: one wild batch must not undo an hour; the norm
    is some tenths in a normal one with losses at their usual weights, and 40 to 140 with those
    that fullband learnt with."""
    average: float = 0.999
    """Decay of the moving average of the weights, per update, in [0, 1); 0: none. Of average
    and weights themselves, what does better on held-out sound is kept."""

    def __post_init__(self) -> None:
        _within("optimiser.rate", self.rate, 0.0, 10.0)
        _within("optimiser.warm_up", self.warm_up, 0.0, 0.99)
        _within("optimiser.plateau_looks", self.plateau_looks, 1, 1_000_000)
        _within("optimiser.plateau_factor", self.plateau_factor, 1e-6, 1.0)
        _within("optimiser.clip", self.clip, 1e-9, 1e9)
        _within("optimiser.average", self.average, 0.0, 0.999999)
        if self.kind not in KINDS:
            raise TrainingError(
                f"optimiser.kind should be one of {', '.join(KINDS)}, found {self.kind!r}"
            )
        if self.schedule not in SCHEDULES:
            raise TrainingError(
                f"optimiser.schedule should be one of {', '.join(SCHEDULES)}, "
                f"found {self.schedule!r}"
            )


@dataclass(frozen=True, slots=True)
class Run:
    """``[run]``: how long, and what is looked at and saved on the way."""

    steps: int | None = None
    """Length in updates; can be repeated exactly."""
    minutes: float | None = None
    """Length by the clock [min]; 60 where neither is given."""
    validate: int = 250
    """Updates between two looks at held-out sound."""
    validation_batches: int = 6
    """Batches of one look."""
    statistics_batches: int = 8
    """Batches that the levels' mean and deviation are taken from."""
    patience: int = 0
    """Looks without a better held-out loss after which the run ends; 0: it never does early."""
    save_s: float = 60.0
    """Longest time between two checkpoints [s]; there is one at each look as well."""
    deterministic: bool = True
    """Whether TensorFlow gives the same bits each time; it costs nothing on processors."""
    tracks: bool = True
    """Whether the catalogue is told which recordings were drawn together."""
    tensorboard: bool = True
    """Whether event files are written, where TensorFlow is at work."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.minutes is not None:
            raise TrainingError("run.steps and run.minutes cannot both be the length: choose one")
        _within("run.steps", 1 if self.steps is None else self.steps, 1, 10**12)
        _within("run.minutes", 1.0 if self.minutes is None else self.minutes, 0.0, 1e9)
        _within("run.validate", self.validate, 1, 10**9)
        _within("run.validation_batches", self.validation_batches, 1, 10**6)
        _within("run.statistics_batches", self.statistics_batches, 1, 10**6)
        _within("run.patience", self.patience, 0, 10**9)
        _within("run.save_s", self.save_s, 0.0, 1e9)


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it. Tables that are left out of the file keep their defaults."""

    out: Path
    """Folder of the run."""
    preset: str = "classic"
    """Size and kind of the network: a name in ``networks.PRESETS`` or ``AS_START``, which it is
    where only ``start`` is given; the setting's own where that is not either."""
    seed: int = 1
    """Of weights and mixtures."""
    start: Path | None = None
    """Folder of another run, or a model file, whose weights this one begins with; of its setting
    and with its network, as far as nothing else is said."""
    catalogue: Path | None = None
    """SQLite file that the run is recorded in; in the run's folder unless said."""
    devices: str = "1"
    """How many accelerators learn together: a number or ``all``."""
    model: ModelSpec = CLASSIC
    """``[model]``: the setting, and what the model file will say of itself. ``setting`` in
    this table chooses what the other fields change: ``classic`` or ``fullband``."""
    data: Data = Data()
    mixing: Recipe = field(default_factory=Recipe)
    batch: Batch = Batch()
    optimiser: Optimiser = Optimiser()
    run: Run = Run()
    loss: Mapping[str, Any] = field(default_factory=dict)
    """``[loss]``: fields of ``losses.Weights``."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """``[network]``: fields of ``networks.Preset`` that are to be other than the preset's."""

    def __post_init__(self) -> None:
        _within("seed", self.seed, 0, 2**31 - 1)
        if self.devices != "all" and not (self.devices.isdigit() and int(self.devices) > 0):
            raise TrainingError(f"devices should be a number or all, found {self.devices!r}")
        if self.model.lookahead:
            raise TrainingError(
                f"model.lookahead should be 0, found {self.model.lookahead}: "
                "networks learn the gains of their newest frame"
            )
        if _NO_FILE_NAME.search(self.model.name):
            raise TrainingError(
                "model.name names a file and should be without /, \\, .. and control characters, "
                f"found {self.model.name!r}"
            )


Table = TypeVar("Table")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line to a parser: what is not given is not in its answer."""

    def add(to: Any, option: str, place: str, text: str, **how: Any) -> None:
        to.add_argument(option, dest=place, default=argparse.SUPPRESS, help=text, **how)

    parser.add_argument(
        "settings", type=Path, nargs="?", metavar="SETTINGS.toml", help="what options leave out"
    )
    path: dict[str, Any] = {"type": Path}
    add(parser, "--out", "out", "folder of this run: checkpoint, log, model", **path)
    add(parser, "--speech", "data.speech", "folders of clean speech", nargs="+", **path)
    add(parser, "--noise", "data.noise", "folders of noise", nargs="+", **path)
    add(parser, "--rir", "data.rir", "folders of room impulse responses", nargs="*", **path)
    add(parser, "--dataset", "data.dataset", "a built dataset in place of folders", **path)
    add(parser, "--cache", "data.cache", "folder of decoded sound (default: in --out)", **path)
    add(parser, "--catalogue", "catalogue", "SQLite file to record in (default: in --out)", **path)
    begin = "begin with the weights of another run or of a model file (.onnx)"
    add(parser, "--start", "start", begin, metavar="RUN|MODEL", **path)
    setting = "default: that of --start, or classic"
    add(parser, "--setting", "model.setting", setting, choices=SETTINGS)
    kind = "size and kind of the network (default: as --start, or the setting's)"
    add(parser, "--preset", "preset", kind)
    add(parser, "--clean", "mixing.clean", "share of clips without noise", type=float)
    add(parser, "--seed", "seed", "of weights and mixtures (default: 1)", type=int)
    length = parser.add_mutually_exclusive_group()
    add(length, "--minutes", "run.minutes", "length by the clock [min] (default: 60)", type=float)
    add(length, "--steps", "run.steps", "length in updates; reproducible by seed", type=int)
    add(parser, "--clips", "batch.clips", f"clips in a batch (default: {Batch().clips})", type=int)
    add(parser, "--frames", "batch.frames", f"of a clip (default: {Batch().frames})", type=int)
    highest = f"highest learning rate (default: {Optimiser().rate:g})"
    add(parser, "--rate", "optimiser.rate", highest, type=float)
    add(parser, "--schedule", "optimiser.schedule", "default: cosine", choices=SCHEDULES)
    looks = f"updates between looks at held-out sound (default: {Run().validate})"
    add(parser, "--validate", "run.validate", looks, type=int)
    batches = f"batches of one look (default: {Run().validation_batches})"
    add(parser, "--validation-batches", "run.validation_batches", batches, type=int)
    patience = "looks without a better loss until the run ends (default: never)"
    add(parser, "--patience", "run.patience", patience, type=int)
    add(parser, "--devices", "devices", "accelerators to use: N or all (default: 1)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="any setting of the file, as optimiser.clip=2.5",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the run's checkpoint")


def settings(args: argparse.Namespace) -> Settings:
    """What the file and the options say together; options win.

    ``--resume`` without a file takes the one that the run left in its folder.

    Raises
    ------
    engine.errors.TrainingError : the file cannot be read, or a setting is not known, has
        another type or is out of range
    engine.errors.ModelError : the same of the table ``model``
    """
    given = {
        place: value
        for place, value in vars(args).items()
        if place not in ("settings", "set", "resume")
    }
    given |= dict(_setting(text) for text in args.set)
    file = args.settings
    if file is None and args.resume and "out" in given:
        left = Path(given["out"]) / FILE
        file = left if left.is_file() else None
    tables = load(file) if file else {}
    for length, other in (("steps", "minutes"), ("minutes", "steps")):
        if f"run.{length}" in given and isinstance(tables.get("run"), dict):
            tables["run"].pop(other, None)
    # A file that a run left has every field of its network and model: another choice forgets them.
    for choice, forgotten in (("preset", "network"), ("model.setting", "model")):
        if choice in given:
            tables.pop(forgotten, None)
    for place, value in given.items():
        *where, name = place.split(".")
        table = tables
        for part in where:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise TrainingError(f"{part} should be a table of settings, found {table!r}")
        table[name] = value
    _take_from_start(tables)
    name = tables.get("model", {}).get("setting") if isinstance(tables.get("model"), dict) else ""
    if name in tuple(SETTINGS):  # a list has no hash
        tables.setdefault("preset", name)  # each setting has a network made for it
    if "out" not in tables:
        raise TrainingError("no folder for the run: give --out, or out in the settings")
    return _settings(tables)


def _take_from_start(tables: dict[str, Any]) -> None:
    """Be of the kind that is begun with, unless another preset or setting is asked for.

    What is given of ``[model]`` stays, as what is given of ``[network]``: a network may grow.
    """
    start, model = tables.get("start"), tables.get("model", {})
    if not isinstance(start, str | Path) or "preset" in tables or not isinstance(model, dict):
        return
    frames = _frames_of(Path(start))
    timing = ("sample_rate", "n_fft", "hop")
    names = [
        name
        for name, spec in SETTINGS.items()
        if all(frames.get(one) == getattr(spec, one) for one in timing)
    ]
    if not frames or model.get("setting") not in (None, *names):
        return
    setting = {"setting": names[0]} if names else {}
    tables["model"] = setting | frames | model
    tables["preset"] = AS_START


def _frames_of(start: Path) -> dict[str, Any]:
    """What a run or a model file says of its frames; nothing where it does not tell.

    Raises TrainingError or ModelError when it is broken.
    """
    if start.suffix == ".onnx":
        from engine.network import Network  # takes a moment

        spec: Any = asdict(Network(start, provider="cpu").spec)
    else:
        spec = load(start / FILE).get("model") if (start / FILE).is_file() else None
    return {n: spec[n] for n in _FRAMES if n in spec} if isinstance(spec, dict) else {}


def load(path: Path) -> dict[str, Any]:
    """The tables of a settings file, paths in it being relative to its folder.

    Raises TrainingError when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path}: {error}") from error
    data = found.get("data")
    for table, names in (
        (found, ("out", "start", "catalogue")),
        (data if isinstance(data, dict) else {}, ("speech", "noise", "rir", "dataset", "cache")),
    ):
        for name in names:
            if isinstance(value := table.get(name), str):
                table[name] = path.parent / value
            elif isinstance(value, list) and all(isinstance(one, str) for one in value):
                table[name] = [path.parent / one for one in value]
    return found


def table(
    kind: type[Table], given: Mapping[str, Any], where: str, base: Table | None = None
) -> Table:
    """A dataclass of settings from a table of the file.

    Parameters
    ----------
    kind : the dataclass
    given : its fields; those left out are ``base``'s, or the defaults
    where : name of the table, for messages

    Raises
    ------
    engine.errors.TrainingError : a field is not known, or its value has another type
    """
    if not isinstance(given, Mapping):
        raise TrainingError(f"{where} should be a table of settings, found {given!r}")
    hints = typing.get_type_hints(kind)
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]  # a dataclass
    place = f"{where}." if where else ""
    for name in given:
        if name not in known:
            raise TrainingError(f"{place}{name} is no setting; there are {', '.join(known)}")
    values = {name: _typed(hints[name], value, place + name) for name, value in given.items()}
    return replace(base, **values) if base is not None else kind(**values)  # type: ignore[type-var]


def to_toml(chosen: Settings) -> str:
    """All of the settings, as ``load`` reads them back; paths are absolute."""
    tables = asdict(chosen)
    tables["model"].pop("format")
    tables["model"].pop("training")
    plain = {name: v for name, v in tables.items() if not isinstance(v, dict)}
    lines = _lines(plain)
    for name, value in tables.items():
        if isinstance(value, dict) and value:
            lines += ["", f"[{name}]", *_lines(value)]
    return "\n".join(lines) + "\n"


def _settings(tables: dict[str, Any]) -> Settings:
    """Check the tables one by one, the model's by what it changes."""
    tables = dict(tables)
    model = tables.pop("model", {})
    if isinstance(model, Mapping):
        model = dict(model)
        name = model.pop("setting", "classic")
        if name not in tuple(SETTINGS):
            raise TrainingError(
                f"model.setting should be one of {', '.join(SETTINGS)}, found {name!r}"
            )
        tables["model"] = table(ModelSpec, model, "model", SETTINGS[name])
    else:
        raise TrainingError(f"model should be a table of settings, found {model!r}")
    if isinstance(tables.get("devices"), int):
        tables["devices"] = str(tables["devices"])
    return table(Settings, tables, "")


def _typed(kind: Any, value: Any, place: str) -> Any:
    """A value as its field wants it; TOML and the command line know fewer types."""
    if is_dataclass(kind) and isinstance(kind, type):
        return value if isinstance(value, kind) else table(kind, value, place)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        (kind,) = (part for part in parts if part is not types.NoneType)
        return _typed(kind, value, place)
    if origin is tuple:
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        n = None if parts[-1] is Ellipsis else len(parts)
        if not listed or n not in (None, len(value)):
            many = "a list" if n is None else f"a list of {n}"
            raise TrainingError(f"{place} should be {many}, found {value!r}")
        kinds = [parts[0]] * len(value) if n is None else parts
        return tuple(_typed(k, v, place) for k, v in zip(kinds, value, strict=True))
    if origin is not None:  # a mapping of whatever, checked where it is used
        if not isinstance(value, Mapping):
            raise TrainingError(f"{place} should be a table of settings, found {value!r}")
        return dict(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str | Path):
        return Path(value).absolute()
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TrainingError(f"{place} should be {_NAMES[kind]}, found {value!r}")
    return value


_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    Path: "a path",
}


def _setting(text: str) -> tuple[str, Any]:
    """``optimiser.clip=2.5`` as a place and a value; text needs no quotes."""
    place, sign, value = text.partition("=")
    if not (sign and place.strip()):
        raise TrainingError(f"--set wants TABLE.KEY=VALUE, found {text!r}")
    try:
        return place.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return place.strip(), value.strip()


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_text(value)}" for name, value in table.items() if value is not None]


def _text(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_text(one) for one in value)}]"
    # JSON's escapes are TOML's, but for the one character that JSON leaves alone.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
