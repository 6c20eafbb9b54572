"""Which networks there are."""

import inspect

from seglib.models.deeplab import create_deeplabv3plus_model
from seglib.models.fcn import create_fcn_model
from seglib.models.segnet import create_segnet_model
from seglib.models.unetpp import create_unet_model, create_unetpp_model

MODELS = {
    "unetpp": (create_unetpp_model, "Zhou et al. 2018, 2020"),
    "unet": (create_unet_model, "Ronneberger et al. 2015"),
    "deeplabv3plus": (create_deeplabv3plus_model, "Chen et al. 2018"),
    "fcn": (create_fcn_model, "Long et al. 2015"),
    "segnet": (create_segnet_model, "Badrinarayanan et al. 2017"),
}


def list_models():
    """List the networks that seglib creates.

    Returns:
        DataFrame by the names that the models carry: `create`, the name of the function in
        `seglib`; `paper`; `encoder` and `prunes`, whether it takes a pretrained encoder and whether
        `seglib.prune` can cut it; `options`, dict of its own arguments and their defaults.
    """
    import pandas as pd

    rows = {}
    for name, (create, paper) in MODELS.items():
        parameters = inspect.signature(create).parameters.values()
        options = {
            p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty
        }
        rows[name] = {
            "create": create.__name__,
            "paper": paper,
            "encoder": "encoder" in options,
            "prunes": name == "unetpp",
            "options": options,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
