"""Arrays out of a PyTorch file, without PyTorch and without running what a pickle may hold."""

import collections
import math
import pickle

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
DTYPES = {
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
}


def read_torch_arrays(path):
    """Read a dictionary of tensors as PyTorch wrote it before version 1.6.

    A pickle can name any function of Python's and have it run. Here it gets a dictionary and
    descriptions of tensors and nothing else.

    Args:
        path: str or path of the file.

    Returns:
        dict of names to arrays, in the order of the file.

    Raises:
        ValueError: the file is of another format, damaged, or asks for anything but tensors.
    """
    with open(path, "rb") as file:
        try:
            return _read(file)
        except Exception as error:  # damaged pickles raise many kinds
            raise ValueError(
                f"{path} cannot be read as weights that PyTorch saved before version 1.6 "
                f"({error}): copy it again, or save it with torch.save(model.state_dict(), path, "
                "_use_new_zipfile_serialization=False)"
            ) from error


def _read(file):
    magic, protocol, system = (_Unpickler(file).load() for _ in range(3))
    if (magic, protocol) != (MAGIC, PROTOCOL) or not system["little_endian"]:
        raise ValueError("its first bytes are those of another format")
    unpickler = _Unpickler(file)
    tensors = unpickler.load()
    storages = {}
    for key in _Unpickler(file).load():
        count = int.from_bytes(file.read(8), "little")
        data = file.read(count * np.dtype(unpickler.dtypes[key]).itemsize)
        storages[key] = np.frombuffer(data, unpickler.dtypes[key], count)
    return {name: _create_array(*tensor, storages) for name, tensor in tensors.items()}


def _create_array(key, offset, shape, steps, storages):
    data = storages[key]
    if math.prod(shape) > data.size:  # steps of 0 would make much of little
        raise ValueError(f"a tensor of {shape} is larger than its {data.size} numbers")
    strides = [data.itemsize * step for step in steps]
    return np.ndarray(shape, data.dtype, data, data.itemsize * offset, strides).copy()


class _Unpickler(pickle.Unpickler):
    """Storages become their keys, tensors (key, offset, shape, steps)."""

    def __init__(self, file):
        super().__init__(file)
        self.dtypes = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _describe_tensor
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no weights need")

    def persistent_load(self, identity):
        _, dtype, key, _, _, _ = identity
        self.dtypes[key] = dtype
        return key


def _describe_tensor(storage, offset, shape, steps, *_):
    return storage, offset, shape, steps
