"""From a folder of photographs and a folder of colour masks to a trained U-Net++.

Names load on first use, so that `import seglib` stays instant.
"""

import os
import sys
import warnings

import lazy_loader

from seglib.system import has_only_avx2, hide_startup

__version__ = "0.2.0"

# TensorFlow reports its start-up on standard error. Set TF_CPP_MIN_LOG_LEVEL=0 to see it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Off by default on processors without AVX-512, where it halves the time of a step all the same.
if "TF_ENABLE_ONEDNN_OPTS" not in os.environ:
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    if "tensorflow" in sys.modules and has_only_avx2():
        warnings.warn(
            "TensorFlow was imported before seglib: on this processor a step takes twice as long. "
            "Restart, and import seglib first",
            stacklevel=2,
        )

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name):
    with hide_startup():
        return _load(name)
