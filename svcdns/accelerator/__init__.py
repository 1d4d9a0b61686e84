"""The accelerator: a program in the kernel answers queries from finished replies that a worker keeps in shared memory.

`svcdns accelerate` (see `helper`) loads the program and creates the memory.
One worker writes the memory (see `mirror`).
"""
