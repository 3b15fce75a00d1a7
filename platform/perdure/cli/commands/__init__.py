"""One file a command of `perdure`, or a group of commands: options, one library call, output.

Their imports of the library are inside the functions, so that `perdure --help` stays quick.
"""
