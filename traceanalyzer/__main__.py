"""`python -m traceanalyzer`."""

import sys

from traceanalyzer.cli.process import main

if __name__ == "__main__":
    sys.exit(main())
