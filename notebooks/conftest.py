"""Settings under which `pytest --nbval` compares what the notebooks print."""

import os

os.environ["TQDM_DISABLE"] = "1"  # progress bars never compare equal
