"""`python -m bnfix`."""

from bnfix.cli import main

raise SystemExit(main())
