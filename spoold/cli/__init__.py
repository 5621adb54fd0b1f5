"""The command spoold. Each command's module is loaded when it is the one that was called.

A module has `add(commands)`, which registers its parsers, each with `set_defaults(run=function(args) -> exit code)`.
"""
