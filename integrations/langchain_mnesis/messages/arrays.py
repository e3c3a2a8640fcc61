"""Exact conversion of numpy arrays and scalars and of pandas frames and series to JSON and back.

A library is imported only when one of its values is written or read. Arrays are stored in numpy's own file format,
without pickles (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html). A frame is stored column by
column. It is rebuilt and compared when it is written, so that a frame that would change is refused.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from typing import Any

Dump = Callable[[Any], Any]
Load = Callable[[Any], Any]


def library_kind(value: object) -> str | None:
    """Return the kind under which a value of numpy or pandas is stored; None for other values.

    Subclasses of these classes, such as masked arrays, have no kind, because they contain further data.
    """
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    if library == "numpy":
        import numpy

        if kind is numpy.ndarray:
            return "ndarray"
        return "npscalar" if isinstance(value, numpy.generic) and not isinstance(value, numpy.void) else None
    if library == "pandas":
        import pandas

        return {pandas.DataFrame: "dataframe", pandas.Series: "series"}.get(kind)
    return None


def dump_library_value(kind: str, value: Any, dump: Dump, load: Load) -> Any:
    """Convert a value of `library_kind()` to JSON. `dump` and `load` convert the objects inside.

    Raises ValueError if the result would not be equal to the value.
    """
    if kind in ("ndarray", "npscalar"):
        return _dump_array(value, dump)
    data = _dump_frame(value, dump) if kind == "dataframe" else _dump_series(value, dump)
    try:
        restored = load_library_value(kind, data, load)
        _compare(kind, value, restored)
    except Exception as error:  # the values of a frame and their comparison run code of other libraries
        raise ValueError(f"{type(value).__name__} does not come back equal: {error}") from error
    return data


def load_library_value(kind: str, data: Any, load: Load) -> Any:
    """Convert JSON of `dump_library_value()` back. Raises ImportError if the library is not installed."""
    if kind == "ndarray":
        return _load_array(data, load)
    if kind == "npscalar":
        return _load_array(data, load)[()]
    return _load_frame(data, load) if kind == "dataframe" else _load_series(data, load)


def _dump_array(value: Any, dump: Dump) -> Any:
    import numpy

    array = numpy.asarray(value)
    if array.dtype.hasobject:
        if array.dtype != object:
            raise ValueError(f"arrays of {array.dtype} contain objects in fields")
        return {"shape": list(array.shape), "objects": [dump(item) for item in array.ravel().tolist()]}
    stream = io.BytesIO()
    numpy.save(stream, array, allow_pickle=False)
    return {"npy": base64.b64encode(stream.getvalue()).decode()}


def _load_array(data: Any, load: Load) -> Any:
    import numpy

    if "npy" in data:
        return numpy.load(io.BytesIO(base64.b64decode(data["npy"])), allow_pickle=False)
    array = numpy.empty(math.prod(data["shape"]), dtype=object)
    for position, item in enumerate(data["objects"]):
        array[position] = load(item)
    return array.reshape(data["shape"])


def _dump_values(values: Any, dump: Dump) -> Any:
    """Convert the values of a column or an index of any dtype."""
    import numpy
    import pandas

    if isinstance(values.dtype, numpy.dtype):
        return _dump_array(values.to_numpy(), dump)
    if isinstance(values.dtype, pandas.CategoricalDtype):
        category = pandas.Categorical(values)
        categories = _dump_values(category.categories, dump)
        return {"categories": categories, "codes": category.codes.tolist(), "ordered": bool(category.ordered)}
    items = values.astype(object).tolist()
    # Each dtype has its own form of missing values and restores it.
    return {
        "dtype": str(values.dtype),
        "items": [None if pandas.isna(item) else _dump_item(item, dump) for item in items],
    }


def _dump_item(item: Any, dump: Dump) -> Any:
    import pandas

    return dump(item.isoformat() if isinstance(item, pandas.Timestamp) else item)


def _load_values(data: Any, load: Load) -> Any:
    import pandas

    if "categories" in data:
        categories = pandas.Index(_load_values(data["categories"], load))
        return pandas.Categorical.from_codes(data["codes"], categories=categories, ordered=data["ordered"])
    if "dtype" in data:
        return pandas.array([load(item) for item in data["items"]], dtype=data["dtype"])
    return _load_array(data, load)


def _dump_index(index: Any, dump: Dump) -> Any:
    import pandas

    names = [dump(name) for name in index.names]
    if isinstance(index, pandas.RangeIndex):
        return {"range": [index.start, index.stop, index.step], "names": names}
    if isinstance(index, pandas.MultiIndex):
        levels = [_dump_values(level, dump) for level in index.levels]
        return {"levels": levels, "codes": [codes.tolist() for codes in index.codes], "names": names}
    return {"values": _dump_values(index, dump), "freq": getattr(index, "freqstr", None), "names": names}


def _load_index(data: Any, load: Load) -> Any:
    import pandas

    names = [load(name) for name in data["names"]]
    if "range" in data:
        return pandas.RangeIndex(*data["range"], name=names[0])
    if "levels" in data:
        levels = [pandas.Index(_load_values(level, load)) for level in data["levels"]]
        return pandas.MultiIndex(levels=levels, codes=data["codes"], names=names)
    index = pandas.Index(_load_values(data["values"], load), name=names[0])
    if data["freq"] is not None:
        index.freq = data["freq"]
    return index


def _dump_series(series: Any, dump: Dump) -> Any:
    return {"values": _dump_values(series, dump), "index": _dump_index(series.index, dump), "name": dump(series.name)}


def _load_series(data: Any, load: Load) -> Any:
    import pandas

    return pandas.Series(_load_values(data["values"], load), _load_index(data["index"], load), name=load(data["name"]))


def _dump_frame(frame: Any, dump: Dump) -> Any:
    columns = [_dump_values(frame.iloc[:, position], dump) for position in range(frame.shape[1])]
    return {"columns": columns, "names": _dump_index(frame.columns, dump), "index": _dump_index(frame.index, dump)}


def _load_frame(data: Any, load: Load) -> Any:
    import pandas

    index = _load_index(data["index"], load)
    columns = [pandas.Series(_load_values(column, load), index) for column in data["columns"]]
    frame = pandas.concat(columns, axis=1) if columns else pandas.DataFrame(index=index)
    frame.columns = _load_index(data["names"], load)
    return frame


def _compare(kind: str, value: Any, restored: Any) -> None:
    import pandas.testing

    if value.attrs or value.flags.allows_duplicate_labels is False:
        raise ValueError("it has attributes")
    compare = pandas.testing.assert_frame_equal if kind == "dataframe" else pandas.testing.assert_series_equal
    compare(value, restored, check_exact=True, check_freq=True)
