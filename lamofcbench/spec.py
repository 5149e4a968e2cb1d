"""Declarations: what a config captures, from which model and data, in which profile.

A config is one TOML file in ``lamofcbench/scenarios``: data only. Everything that a run needs to
know beforehand (shapes, dtypes, bounds, counts) stands there and is never inferred in mid-run.
"""

import functools
import itertools
import re
import tomllib
from importlib import resources
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lamofcbench.errors import DeclarationError, UnknownNameError

__all__ = [
    "AXES",
    "CALIBRATION_SAMPLES",
    "REPO",
    "SPLITS",
    "ModeSpec",
    "ModelSpec",
    "ProfileSpec",
    "RaggedSpec",
    "SampleCounts",
    "ScenarioSpec",
    "SourceSpec",
    "TensorSpec",
    "expand",
    "list_configs",
    "load_scenario",
    "parse_scenario",
]

SPLITS = ("calibration", "test", "train")
"""Splits in the order in which a store holds them."""
CALIBRATION_SAMPLES = 32
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*[A-Za-z0-9_]")
"""Name of a Hub repository, ``org/name``."""

Axis = Literal[
    "token",
    "image_token",
    "crop",
    "view",
    "head",
    "dim",
    "channel",
    "state",
    "kernel",
    "height",
    "width",
    "pixel",
]
AXES = ("sample", *get_args(Axis))
"""Names that dimensions may have."""
Dtype = Literal[
    "bfloat16", "float16", "float32", "float64", "uint8", "uint16", "int16", "int32", "int64"
]
Scalar = str | int | float | bool
PositiveInt = Annotated[int, Field(gt=0)]
KeyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def expand(name: str) -> list[str]:
    """Expand ``{a,b}`` and ``{0..4}`` in a name, as a shell does.

    Args:
        name: a name such as ``layer.{0..4}.{k,v}_cache``.

    Returns:
        The names it stands for, in order; the name alone if it has no braces.
    """
    pieces: list[list[str]] = []
    for text in re.split(r"(\{[^{}]*\})", name):
        if not text.startswith("{"):
            pieces.append([text])
            continue
        span = re.fullmatch(r"\{(\d+)\.\.(\d+)\}", text)
        pieces.append(
            [str(i) for i in range(int(span[1]), int(span[2]) + 1)]
            if span
            else text[1:-1].split(",")
        )
    return ["".join(choice) for choice in itertools.product(*pieces)]


class RaggedSpec(_Spec):
    """Bounds of a ragged axis: its declared maximum and its typical length, in rows."""

    max: PositiveInt
    typical: PositiveInt

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.typical > self.max:
            raise ValueError(f"typical {self.typical} is above max {self.max}")
        return self


class TensorSpec(_Spec):
    """One tensor of a sample, in the stored layout without the sample axis.

    ``shape`` gives a size per axis; a ragged axis is named instead. ``captured`` is the dtype in
    which the model produces it, ``stored`` the dtype whose values are kept (the same unless
    declared), ``reference`` the dtype that EBPFP weighs it by (the captured one unless declared).
    """

    name: KeyName
    axes: tuple[Axis, ...] = Field(min_length=1)
    shape: tuple[PositiveInt | Axis, ...] = Field(min_length=1)
    captured: Dtype
    stored: Dtype | None = None
    reference: Dtype | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.axes) != len(self.shape):
            raise ValueError(f"{self.name}: {len(self.axes)} axes, {len(self.shape)} sizes")
        if len(set(self.axes)) != len(self.axes):
            raise ValueError(f"{self.name}: an axis is named twice")
        for axis, size in zip(self.axes, self.shape, strict=True):
            if isinstance(size, str) and size != axis:
                raise ValueError(f"{self.name}: size {size!r} stands under axis {axis!r}")
        if sum(isinstance(size, str) for size in self.shape) > 1:
            raise ValueError(f"{self.name}: more than one ragged axis")
        if self.stored == "bfloat16" and self.captured not in ("bfloat16", "float32"):
            raise ValueError(f"{self.name}: {self.captured} cannot be stored as bfloat16")
        if self.stored not in (None, "bfloat16", self.captured):
            raise ValueError(f"{self.name}: stored may differ from captured only as bfloat16")
        return self

    @property
    def ragged_axis(self) -> str | None:
        """The ragged axis, or None."""
        return next((size for size in self.shape if isinstance(size, str)), None)

    @property
    def logical(self) -> str:
        """The dtype whose values are kept on disk."""
        return self.stored or self.captured


class ModelSpec(_Spec):
    """Which weights: a Hub id, a folder, or ``bundled:<name>`` for a miniature in the wheel."""

    id: str
    revision: Revision | None = None
    licence: str
    gated: bool = False
    dtype: Dtype


class SourceSpec(_Spec):
    """Which data, and how samples are chosen from it."""

    name: Name
    id: str
    revision: Revision | None = None
    split: str
    calibration_split: str
    licence: str
    selection: str
    seed: int = 0


class SampleCounts(_Spec):
    """Samples per split."""

    calibration: Annotated[int, Field(ge=0)] = CALIBRATION_SAMPLES
    test: PositiveInt
    train: Annotated[int, Field(ge=0)] = 0


class ModeSpec(_Spec):
    """Keys that are coded and injected together, and the context that the back half then reads."""

    keys: tuple[KeyName, ...] = Field(min_length=1)
    context: tuple[Name, ...] = ()


class ProfileSpec(_Spec):
    """Everything that is fixed about one config with one set of weights."""

    model: ModelSpec
    source: SourceSpec
    split_point: str
    samples: SampleCounts
    ragged: dict[Axis, RaggedSpec] = Field(default_factory=dict)
    preprocess: dict[str, Scalar] = Field(default_factory=dict)
    compression: Literal["blosc", "none"] = "blosc"
    keys: tuple[TensorSpec, ...] = Field(min_length=1)
    context: tuple[TensorSpec, ...] = ()
    reference: dict[Name, Literal["int64", "float64", "string", "list<string>"]] = Field(
        default_factory=dict
    )
    reference_arrays: tuple[TensorSpec, ...] = ()
    modes: dict[str, ModeSpec] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _expand_names(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for field in ("keys", "context", "reference_arrays"):
            if isinstance(data.get(field), list):
                data[field] = [
                    {**entry, "name": name} if isinstance(entry, dict) else entry
                    for entry in data[field]
                    for name in (
                        expand(entry["name"])
                        if isinstance(entry, dict) and isinstance(entry.get("name"), str)
                        else [None]
                    )
                ]
        if isinstance(data.get("modes"), dict):
            data["modes"] = {
                mode: {**body, "keys": [n for k in body["keys"] for n in expand(k)]}
                if isinstance(body, dict) and isinstance(body.get("keys"), list)
                else body
                for mode, body in data["modes"].items()
            }
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = []
        for kind in ("keys", "context", "reference_arrays"):
            names = [tensor.name for tensor in getattr(self, kind)]
            faults += [
                f"{kind}: {n} is declared twice" for n in sorted(set(names)) if names.count(n) > 1
            ]
        for tensor in self.tensors().values():
            if tensor.ragged_axis is not None and tensor.ragged_axis not in self.ragged:
                faults.append(f"{tensor.name}: ragged axis {tensor.ragged_axis!r} has no bounds")
            faults += [
                f"{tensor.name}: axis {axis!r} has lengths, so it is ragged in every key"
                for axis, size in zip(tensor.axes, tensor.shape, strict=True)
                if axis in self.ragged and not isinstance(size, str)
            ]
        known = {tensor.name for tensor in self.keys}
        contexts = {tensor.name for tensor in self.context}
        for mode, body in self.modes.items():
            faults += [f"mode {mode}: no key {key!r}" for key in body.keys if key not in known]
            faults += [f"mode {mode}: no context {c!r}" for c in body.context if c not in contexts]
        both = sorted(set(self.reference) & {tensor.name for tensor in self.reference_arrays})
        faults += [f"reference {name!r} is declared as a column and as an array" for name in both]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def tensors(self) -> dict[str, TensorSpec]:
        """All arrays by their path in the store: ``<key>``, ``context/…``, ``reference/…``."""
        return {
            **{tensor.name: tensor for tensor in self.keys},
            **{f"context/{tensor.name}": tensor for tensor in self.context},
            **{f"reference/{tensor.name}": tensor for tensor in self.reference_arrays},
        }

    def key(self, name: str) -> TensorSpec:
        """Return one declared key, or raise `UnknownNameError` with near matches."""
        for tensor in self.keys:
            if tensor.name == name:
                return tensor
        raise UnknownNameError("tensor", name, [tensor.name for tensor in self.keys])

    def mode(self, name: str | None = None) -> ModeSpec:
        """Return a mode by name; the first, which is the default, without one."""
        if name is None:
            return next(iter(self.modes.values()))
        if name not in self.modes:
            raise UnknownNameError("mode", name, self.modes)
        return self.modes[name]


class ScenarioSpec(_Spec):
    """One config: a data set through a model, in each of its profiles."""

    config: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$")]
    title: str
    category: Literal["CVU", "CLU", "CAU", "CTTI", "multimodal"]
    family: Literal["vit", "llm", "ssm", "alm", "t2i", "mllm"]
    task: Name
    metric: Name
    profiles: dict[Literal["tiny", "full"], ProfileSpec] = Field(min_length=1)

    def profile(self, name: str) -> ProfileSpec:
        """Return a declared profile, or raise `UnknownNameError` with near matches."""
        for known, body in self.profiles.items():
            if known == name:
                return body
        raise UnknownNameError(f"profile of {self.config}", name, self.profiles)


def parse_scenario(text: str, where: str) -> ScenarioSpec:
    """Parse and validate one declaration.

    Args:
        text: the TOML text.
        where: the file's name, for messages.

    Raises:
        DeclarationError: with every fault of the file, one a line.
    """
    try:
        return ScenarioSpec.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise DeclarationError(f"{where}: not valid TOML: {error}") from None
    except ValidationError as error:
        lines = [
            f"{where}: {'.'.join(str(part) for part in fault['loc']) or 'file'}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise DeclarationError("\n".join(lines)) from None


def list_configs() -> list[str]:
    """Names of all declared configs, sorted."""
    folder = resources.files("lamofcbench") / "scenarios"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


@functools.cache
def load_scenario(config: str) -> ScenarioSpec:
    """Load the declaration of a config.

    Raises:
        UnknownNameError: no such config; near matches are listed.
        DeclarationError: its file is malformed.
    """
    if config not in (known := list_configs()):
        raise UnknownNameError("config", config, known, "Run `lamofcbench list` to see all.")
    path = resources.files("lamofcbench") / "scenarios" / f"{config}.toml"
    spec = parse_scenario(path.read_text("utf-8"), f"{config}.toml")
    if spec.config != config:
        raise DeclarationError(
            f"{config}.toml: config: names {spec.config!r}; must equal the file's name"
        )
    return spec
