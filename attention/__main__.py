import sys

from attention.cli import main

sys.exit(main())
