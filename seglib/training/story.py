"""What a run tells about itself: `run.json`, `history.csv` and `curves.png`."""

import csv
import datetime
import time

import pandas as pd

from seglib import plots
from seglib.system import format_duration
from seglib.training.checkpoints import replacing, write_json
from seglib.training.devices import describe_versions
from seglib.training.runs import read_run_file

SECONDS_BETWEEN_CURVES = 300


class Story:
    """Written after each checkpoint, and when the session ends, however it ends.

    Args:
        run_dir: path of the run's folder.
        state: RunState.
        plan: Plan.
        precision: str.
        batch_size: int, pairs a step as long as no other size is chosen.
    """

    def __init__(self, run_dir, state, plan, *, precision, batch_size):
        self.run_dir, self.state, self.plan = run_dir, state, plan
        self.precision, self.batch_size = precision, batch_size
        self.ended_by, self.drawn = None, time.monotonic()
        self.sessions = list(read_run_file(run_dir).get("sessions", []))
        self.session = {
            "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "from_step": state.step,
            "seconds_before": round(plan.clock.earlier, 1),
            # trained, but not kept when the session before was cut off
            "seconds_lost": round(max(0.0, plan.clock.earlier - state.elapsed), 1),
            "planned_steps_before": state.planned_steps or None,
            **describe_versions(),
        }

    def __enter__(self):
        self._write_json("running")

    def __exit__(self, kind, error, traceback):
        reason = str(error) or kind.__name__ if error else None
        status = f"failed: {reason}" if reason else _describe_end(self.ended_by)
        if self.state.history:
            self._draw_curves()
        self._write_json(status)

    def write(self):
        """Write the tables, and now and then the curves."""
        if self.state.history:
            self._write_history()
            if time.monotonic() - self.drawn > SECONDS_BETWEEN_CURVES:
                self._draw_curves()
        self._write_json("running")

    def _write_json(self, status):
        clock = self.plan.clock
        session = {
            **self.session,
            "to_step": self.state.step,
            "seconds": round(clock.session, 1),
            "elapsed_seconds": round(clock.elapsed, 1),
        }
        content = {
            "status": status,
            "elapsed": format_duration(clock.elapsed),
            "settings": self.state.settings,
            "precision": self.precision,
            "plan": {
                "batch_size": self.state.batch_size or self.batch_size,
                **self.plan.to_dict(),
            },
            "sessions": [*self.sessions, session],
        }
        write_json(self.run_dir / "run.json", content)

    def _write_history(self):
        with (
            replacing(self.run_dir / "history.csv") as temporary,
            open(temporary, "w", newline="") as stream,
        ):
            writer = csv.DictWriter(stream, self.state.history[0])
            writer.writeheader()
            writer.writerows(self.state.history)

    def _draw_curves(self):
        self.drawn = time.monotonic()
        figure = plots.plot_learning_curves(pd.DataFrame(self.state.history))
        with replacing(self.run_dir / "curves.png") as temporary:
            figure.savefig(temporary, dpi=120)


def _describe_end(ended_by):
    return "finished" if ended_by in ("plan", "patience") else f"stopped by {ended_by}"
