import os
import pathlib
import subprocess
import sys

import pytest

from seglib import processors
from seglib.processors import has_bfloat16_units, has_only_avx2, list_units

ZEN_3 = "processor\t: 0\nmodel name\t: AMD EPYC avx512f\nflags\t\t: fpu sse2 avx avx2 fma\n"
SAPPHIRE = ZEN_3 + "power management:\n\nprocessor\t: 1\nflags\t\t: fpu\n"
SAPPHIRE = SAPPHIRE.replace("fma", "fma avx512f avx512_bf16 amx_bf16", 1)
ARM = "processor\t: 0\nFeatures\t: fp asimd bf16\n"


@pytest.mark.parametrize(
    ("text", "bfloat16", "only_avx2"),
    [(ZEN_3, False, True), (SAPPHIRE, True, False), (ARM, False, False), (None, False, False)],
    ids=["Zen 3", "Sapphire Rapids", "ARM", "not Linux"],
)
def test_units_are_those_of_the_first_processor(text, bfloat16, only_avx2, monkeypatch):
    def read(path, **_):
        if text is None:
            raise FileNotFoundError(path)
        return text

    monkeypatch.setattr(processors, "list_units", list_units.__wrapped__)
    monkeypatch.setattr(pathlib.Path, "read_text", read)
    assert has_bfloat16_units() == bfloat16
    assert has_only_avx2() == only_avx2


@pytest.mark.parametrize(
    ("setting", "modules", "warns"),
    [(None, ["tensorflow"], True), (None, [], False), ("0", ["tensorflow"], False)],
)
def test_tensorflow_before_seglib_is_warned_of(setting, modules, warns):
    script = (
        "import pathlib, sys, types\n"
        f"sys.modules.update({{name: types.ModuleType(name) for name in {modules}}})\n"
        "pathlib.Path.read_text = lambda *_, **__: 'flags : avx2'\n"
        "import seglib\n"
    )
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": setting}
    if setting is None:
        del environment["TF_ENABLE_ONEDNN_OPTS"]
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    assert ("import seglib first" in run.stderr) == warns
