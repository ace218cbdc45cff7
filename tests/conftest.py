"""For the whole suite: no tracker of this machine takes part, no deadline on a shared CPU."""

import os
import signal

from hypothesis import settings

# Before any test, and in the environment: programs that tests start inherit it.
os.environ["STEPBUS_REPORT_TO"] = "none"

# Ignored where the suite was started in a shell's background; tests press Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("shared-cpu", deadline=None)
settings.load_profile("shared-cpu")
