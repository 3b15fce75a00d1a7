"""`python -m perdure.cli`: the same as `perdure`, for a process that starts itself again."""

from perdure.cli import main

main()
