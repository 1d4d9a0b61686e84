"""The accelerator: a program in the kernel answers queries with replies that a worker writes into shared memory.

`svcdns accelerate` (see `helper`) loads the program and creates the memory.
One worker writes the memory (see `mirror`).
"""
