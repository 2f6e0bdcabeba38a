"""Data from a pickle, by following its stack: nothing that it names is imported or called."""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTIES = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_DTYPE, _NDARRAY, _BYTES = "numpy dtype", "numpy ndarray", "__builtin__ bytes"
_ENCODE = "_codecs encode"  # how a protocol without bytes writes them
_RECONSTRUCT = {f"numpy.{core}.multiarray _reconstruct" for core in ("core", "_core")}
_FROMBUFFER = {f"numpy.{core}.numeric _frombuffer" for core in ("core", "_core")}
_KNOWN = {_DTYPE, _NDARRAY, _BYTES, _ENCODE, *_RECONSTRUCT, *_FROMBUFFER}


@dataclass(frozen=True)
class Name:
    """Stand for what a pickle would import."""

    text: str


@dataclass
class Call:
    """Stand for what a pickle would call, and for the state it would then set."""

    function: str
    arguments: tuple[Any, ...]
    state: Any = None


def literal(data: bytes) -> Any:
    """Return what a pickle holds; a numpy array stays a description, for `array` to read.

    Raises ValueError, or what else a damaged pickle provokes: KeyError, IndexError, TypeError,
    AttributeError. A pickle that names anything but the parts of an array is refused.
    """
    machine = _Machine()
    for code, argument, _ in pickletools.genops(data):
        machine.step(code.name, argument)
    (result,) = machine.stack
    return result


def array(value: Any) -> np.ndarray[Any, Any]:
    """Return the array of uint8 that a pickle describes. Raises as `literal` does."""
    import numpy as np

    if value.function in _FROMBUFFER:
        raw, dtype, shape, order = value.arguments
    elif value.function in _RECONSTRUCT:
        _, shape, dtype, fortran, raw = value.state
        order = "F" if fortran else "C"
    else:
        raise ValueError(f"{value.function} makes no array")
    if dtype.arguments[0] not in ("u1", "|u1"):
        raise ValueError(f"an array of {dtype.arguments[0]}, not of bytes")
    raw = raw.encode("latin-1") if isinstance(raw, str) else raw
    return np.frombuffer(raw, dtype=np.uint8).reshape(shape, order=order)


class _Machine:
    """Follow a pickle's stack."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Do one operation: move values, or build one out of those on top."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTIES:
            self.stack.append(_EMPTIES[name]())
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in {"PUT", "BINPUT", "LONG_BINPUT"}:
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            self.stack.append(_known(argument))
        elif name not in {"PROTO", "FRAME", "STOP"}:
            self._build(name)

    def _build(self, name: str) -> None:
        if name in {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}:
            count = len(self.stack) - self.marks.pop() if name == "TUPLE" else int(name[-1])
            self.stack.append(tuple(self._take(count)))
        elif name in {"LIST", "DICT"}:
            items = self._take(len(self.stack) - self.marks.pop())
            self.stack.append(items if name == "LIST" else _pairs(items))
        elif name in {"APPEND", "APPENDS"}:
            items = self._items(name == "APPENDS", 1)
            self.stack[-1].extend(items)
        elif name in {"SETITEM", "SETITEMS"}:
            items = self._items(name == "SETITEMS", 2)
            self.stack[-1].update(_pairs(items))
        elif name == "STACK_GLOBAL":
            self.stack.append(_known(" ".join(self._take(2))))
        elif name == "REDUCE":
            function, arguments = self._take(2)
            self.stack.append(_call(function.text, arguments))
        elif name == "BUILD":
            (state,) = self._take(1)
            self.stack[-1].state = state
        else:
            raise ValueError(f"unexpected {name}")

    def _items(self, marked: bool, count: int) -> list[Any]:
        return self._take(len(self.stack) - self.marks.pop() if marked else count)

    def _take(self, count: int) -> list[Any]:
        start = len(self.stack) - count
        if start < 0:
            raise IndexError("too few values")
        parts = self.stack[start:]
        del self.stack[start:]
        return parts


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _known(name: str) -> Name:
    if name not in _KNOWN:
        raise ValueError(f"it names {name.replace(' ', '.')}")
    return Name(name)


def _call(function: str, arguments: tuple[Any, ...]) -> Any:
    """Return a description of a call, or the bytes that an early protocol can but call for."""
    if function == _BYTES and not arguments:
        return b""
    if function == _ENCODE:
        text, coding = arguments
        if coding != "latin1":
            raise ValueError(f"bytes coded as {coding}")
        return text.encode("latin-1")
    return Call(function, arguments)
