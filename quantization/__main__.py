"""`python -m quantization`."""

import sys

from quantization.cli import main

if __name__ == "__main__":
    sys.exit(main())
