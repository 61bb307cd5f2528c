"""What holds for all tests."""

import os

# a test that only draws a page shall not start a worker process
os.environ.setdefault("HEADSHARE_WARM_WORKER", "0")
