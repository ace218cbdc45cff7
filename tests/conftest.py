"""For the whole suite: no tracker of this machine takes part, no deadline on a shared CPU."""

import os

from hypothesis import settings

# Before any test, and in the environment: programs that tests start inherit it.
os.environ["STEPBUS_REPORT_TO"] = "none"

settings.register_profile("shared-cpu", deadline=None)
settings.load_profile("shared-cpu")
