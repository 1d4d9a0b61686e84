"""The supervisor: PID 1 of a container, and the parent process of the control process and the workers.

The package uses only the standard library, and parses no data from outside of the program.
"""
