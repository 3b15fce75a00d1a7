"""For tests of workflows and activities.

`environment.py` is a platform in memory that skips time; `activities.py` puts fakes in the place of
activities and gives a function the attempt it asks about; `replaying.py` replays histories. May
import everything but the command line and the wiring. Start reading at `environment.py`.
"""

from perdure.testing.activities import attempt, fake
from perdure.testing.environment import Environment
from perdure.testing.replaying import replay

__all__ = ["Environment", "attempt", "fake", "replay"]
