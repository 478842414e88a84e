"""``python -m cdp`` is ``cdp``."""

from cdp.cli import main

main()
