"""`python -m seglab.cli`."""

from seglab.cli.entry import main

main()
